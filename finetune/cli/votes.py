"""finetune serve votes: blind votes of the playground, recorded in MLflow."""

from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.contracts.run import Home

EXAMPLES = "Examples: `finetune serve votes`, `finetune serve votes --server http://127.0.0.1:5000 --json`."


def votes(
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="MLflow's server, if not the home's own store.")
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Record the blind votes of the playground in MLflow, and show how each pair of versions stands.

    Votes that were recorded before are not recorded again, so it may be run at any time and by any timer.
    """
    from dataclasses import asdict

    from finetune.contracts.run import Home
    from finetune.evaluate.vote_record import describe, record_votes
    from finetune.terminal.output import emit

    place = Home(home.absolute())
    recorded = record_votes(place, server=server)
    lines = [f"{describe(one.pair, one.tally)} {one.num_new} new." for one in recorded]
    text = "\n".join(lines) if lines else f"No votes in {home}. Vote at /playground of a running server, blind."
    document = [
        {**asdict(one.pair), **asdict(one.tally), **one.tally.figures(), "num_new": one.num_new} for one in recorded
    ]
    emit({"pairs": document}, as_json=json, text=text)


def record_new_votes(home: "Home", server: str | None, *, known_bytes: int) -> int:
    """Record the votes of home where their file has other than known_bytes; how many it has now.

    Raises MachineError when the store is away, RunError for a damaged file.
    """
    from finetune.evaluate.vote_record import describe, record_votes
    from finetune.terminal.output import note

    num_bytes = home.votes.stat().st_size if home.votes.is_file() else 0
    if num_bytes != known_bytes:
        for one in record_votes(home, server=server):
            if one.num_new:
                note(describe(one.pair, one.tally))
    return num_bytes
