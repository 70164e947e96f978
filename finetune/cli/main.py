"""The console script `finetune`: mounts the groups and hands errors to the one place that prints them."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import finetune
import finetune.cli.adapter
import finetune.cli.data
import finetune.cli.demo
import finetune.cli.doctor
import finetune.cli.evaluate
import finetune.cli.follow
import finetune.cli.pause
import finetune.cli.plan
import finetune.cli.recipe
import finetune.cli.runs
import finetune.cli.train
import finetune.cli.votes
import serving.cli
from finetune.cli.errors import run_guarded
from finetune.guard.jail import arm
from finetune.guard.offline import go_offline
from finetune.guard.record import open_journal

app = typer.Typer(
    name="finetune",
    help="Fine-tune a code model on your repositories, on your own GPU, and prove that it got better. Nothing leaves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("demo", epilog=finetune.cli.demo.EXAMPLES)(finetune.cli.demo.demo)
app.add_typer(finetune.cli.data.app, name="data")
app.add_typer(finetune.cli.recipe.app, name="recipe")
app.command("plan", epilog=finetune.cli.plan.EXAMPLES)(finetune.cli.plan.plan)
app.command("train", epilog=finetune.cli.train.EXAMPLES)(finetune.cli.train.train)
app.command("evaluate", epilog=finetune.cli.evaluate.EXAMPLES)(finetune.cli.evaluate.evaluate)
app.add_typer(finetune.cli.adapter.app, name="adapter")
app.add_typer(finetune.cli.runs.app, name="runs")
serving.cli.app.command("follow", epilog=finetune.cli.follow.EXAMPLES)(finetune.cli.follow.follow)
serving.cli.app.command("votes", epilog=finetune.cli.votes.EXAMPLES)(finetune.cli.votes.votes)
serving.cli.app.command("pause", epilog=finetune.cli.pause.EXAMPLES)(finetune.cli.pause.pause)
app.add_typer(serving.cli.app, name="serve")
app.add_typer(finetune.cli.doctor.app, name="doctor")


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"finetune {finetune.__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error; allowed anywhere.")] = False,
) -> None:
    """Options of every command line; their work is done by callbacks and by main."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process and return its exit code."""
    debug = "--debug" in arguments
    rest = [argument for argument in arguments if argument != "--debug"]
    open_journal()
    go_offline()
    return run_guarded(
        lambda: app(args=rest, prog_name="finetune", standalone_mode=False), debug=debug, as_json="--json" in rest
    )


def main() -> None:
    """Entry point of the console script."""
    arm()
    sys.exit(run(sys.argv[1:]))
