"""finetune adapter promote, rollback and history: what is live, and how it came to be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.release.promote import Wish

PROMOTE_EXAMPLES = (
    "Examples: `finetune adapter promote embedded-1f0c9a2b3d4e`, "
    "`finetune adapter promote ours --alias challenger --why 'new quarter' --gate strict.yaml --json`."
)
ROLLBACK_EXAMPLES = (
    "Examples: `finetune adapter rollback`, `finetune adapter rollback --model ours --alias challenger --why slower`."
)
HISTORY_EXAMPLES = "Examples: `finetune adapter history`, `finetune adapter history --home /srv/finetune --json`."
Alias = Annotated[str, typer.Option(metavar="NAME", help="champion or challenger.")]
Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the record.")]
Who = Annotated[str, typer.Option("--as", metavar="NAME", help="Who does it. None: the user of the system.")]


def promote(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or its run.")],
    alias: Alias = "champion",
    why: Why = "",
    who: Who = "",
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="The report. None: its run's newest.")] = None,
    gate: Annotated[Path | None, typer.Option(metavar="FILE", help="What is asked. None: the shipped gate.")] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Let an adapter go live: point an alias at it, if its report passes the gate. Exit code 5 when it does not."""
    from finetune.contracts.run import Home
    from finetune.evaluate.report import load_rows, recompute
    from finetune.release.promote import promote as carry_out
    from finetune.terminal.output import emit, note

    entry, verdict = carry_out(
        Home(home.absolute()),
        adapter,
        wish=_wish(alias, who, why),
        report=report,
        gate=gate,
        load=load_rows,
        recompute=recompute,
    )
    for warning in verdict.warnings:
        note(f"Not asked for: {warning}")
    text = f"{entry.text('adapter_id')} is {alias} of {entry.text('model')}: version {entry.text('to')}."
    emit(entry.model_dump(mode="json"), as_json=json, text=text)


def rollback(
    model: Annotated[str, typer.Option(metavar="NAME", help="Registered model. None: the one moved last.")] = "",
    alias: Alias = "champion",
    why: Why = "",
    who: Who = "",
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Point an alias back at the version before, by the record. No gate is asked, but the adapter must be whole."""
    from finetune.contracts.run import Home
    from finetune.release.promote import roll_back
    from finetune.terminal.output import emit

    entry = roll_back(Home(home.absolute()), model, wish=_wish(alias, who, why))
    text = f"{entry.text('adapter_id')} is {alias} of {entry.text('model')} again: version {entry.text('to')}."
    emit(entry.model_dump(mode="json"), as_json=json, text=text)


def history(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """Show the record of evaluations and of what went live, after it was checked line by line."""
    from finetune.contracts.run import Home
    from finetune.release.promote import chain_of
    from finetune.terminal.output import emit, printable, table

    entries = chain_of(Home(home.absolute())).read()
    keys = ("adapter_id", "alias", "from", "to", "who", "why")
    rows = [(str(one.sequence), one.kind, *(printable(one.text(key)) for key in keys)) for one in entries]
    header = ("", "what", "adapter", *keys[1:])
    emit(
        {"entries": [entry.model_dump(mode="json") for entry in entries]},
        as_json=json,
        text=table(rows, header=header) if rows else f"The record of {home} is empty.",
    )


def _wish(alias: str, who: str, why: str) -> "Wish":
    import getpass

    from finetune.contracts.errors import UsageError
    from finetune.release.promote import Wish

    if alias not in ("champion", "challenger"):
        raise UsageError(f"{alias!r} is no alias.", "There are champion and challenger.")
    return Wish(alias=alias, who=who or getpass.getuser(), why=why)
