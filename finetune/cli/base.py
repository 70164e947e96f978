"""finetune base: base models that are brought into the home, by name."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

app = typer.Typer(
    help="Base models of the home: bring one in, list, verify.", no_args_is_help=True, rich_markup_mode=None
)


@app.command(
    "add",
    epilog="Examples: `finetune base add /media/usb/Qwen3.6-27B`, "
    "`finetune base add ./model --name coder-7b --licence apache-2.0`.",
)
def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A downloaded model: config, weights, tokenizer.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What recipes call it. None: the folder's.")] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="LICENCE", help="Such as apache-2.0. None: what the folder says.")
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Copy a base model into the home, read-only, with a digest of each file. Only data: no pickles, no code.

    What was stopped goes on when it is typed again. Then base.path of a recipe may be the name.
    """
    from finetune.contracts.run import Home
    from finetune.model.base_import import add_base
    from finetune.terminal.output import emit, note

    place = Home(home.absolute())
    record = add_base(folder, place.bases, name=name, licence=licence)
    note(f"Licence: {record.licence}, by {record.licence_from}. In a recipe: base.path: {record.name}")
    document = {**record.model_dump(mode="json"), "folder": str(place.bases / record.folder_name)}
    emit(document, as_json=json, text=str(place.bases / record.folder_name))


@app.command("list", epilog="Examples: `finetune base list`, `finetune base list --home /srv/finetune --json`.")
def list_(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """List the bases of a home with family, size, licence and folder."""
    from finetune.contracts.bases import list_bases
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, printable, table

    found = list(list_bases(Home(home.absolute()).bases))
    sizes = [sum(entry.bytes for entry in record.files) for _, record in found]
    rows = [
        (record.name, record.family, f"{size / 1e9:,.2f} GB", printable(record.licence), str(folder))
        for (folder, record), size in zip(found, sizes, strict=True)
    ]
    documents = [{**record.model_dump(mode="json"), "folder": str(folder)} for folder, record in found]
    text = table(rows, header=("name", "family", "size", "licence", "folder")) if rows else f"No bases in {home}."
    emit({"bases": documents}, as_json=json, text=text)


@app.command("verify", epilog="Examples: `finetune base verify qwen3.6-27b`, `finetune base verify coder-7b --json`.")
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `finetune base list` shows.")],
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Read every file of a base and compare its digest. Exit code 3 when one is missing, altered or new."""
    from finetune.contracts.bases import find_base
    from finetune.contracts.errors import BaseModelError
    from finetune.contracts.run import Home
    from finetune.model.base_import import verify_base
    from finetune.terminal.output import emit

    bases = Home(home.absolute()).bases
    folder = find_base(bases, name)
    if folder is None:
        raise BaseModelError(f"There is no base {name} in {bases}.", "`finetune base list` shows what there is.")
    record = verify_base(folder)
    document = {"name": record.name, "digest": record.digest, "num_files": len(record.files), "whole": True}
    emit(document, as_json=json, text=f"{folder} is whole: {len(record.files)} files, {record.digest[:12]}.")
