"""Options that every command takes, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
HomeFolder = Annotated[
    Path,
    typer.Option("--home", envvar="FINETUNE_HOME", help="Folder of datasets, runs, adapters and the tracking store."),
]
DEFAULT_HOME = Path(".finetune")
