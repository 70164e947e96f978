"""finetune data: the commands of data_pipelines, and forget, which withdraws adapters, too, and is composed here."""

import finetune.cli.forget
from data_pipelines.cli import app

__all__ = ["app"]

app.command("forget", epilog=finetune.cli.forget.EXAMPLES)(finetune.cli.forget.forget)
