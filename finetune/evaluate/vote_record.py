"""Blind votes in MLflow: a run for each pair of versions, a step for each vote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from finetune.contracts.run import Home
from finetune.contracts.votes import read_votes
from finetune.evaluate.votes import Pair, Tally, count_votes
from finetune.tracking.base import RunCard
from finetune.tracking.delivery import batches
from finetune.tracking.jsonl import Entry
from finetune.tracking.mlflow import place_of
from finetune.tracking.mlflow_store import MlflowStore
from finetune.tracking.place import StorePlace

EXPERIMENT = "votes"
WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RecordedPair:
    """A pair as it stands, and how many of its votes were new to the store."""

    pair: Pair
    tally: Tally
    num_new: int


def record_votes(home: Home, *, server: str | None) -> list[RecordedPair]:
    """Bring the store up to date with the votes of home; what it has already is not recorded twice.

    server is the address of MLflow's server, None for the home's own store. Raises MachineError when the store is away,
    RunError for a damaged file of votes.
    """
    tallies = count_votes(read_votes(home.votes))
    place = place_of(home, server)
    return [_record(place, pair, rows) for pair, rows in sorted(tallies.items())]


def _record(place: StorePlace, pair: Pair, rows: Sequence[Tally]) -> RecordedPair:
    store = MlflowStore(place, _card(pair, since_ms=rows[0].at_ms))
    store.open(None)
    confirmed = store.confirmed()
    new = [
        Entry(number, row.at_ms, "metrics", {"step": number, "values": dict(row.figures())})
        for number, row in enumerate(rows, start=1)
        if number > confirmed
    ]
    if new:
        with place.errors():
            store.ready(WAIT_SECONDS)
            for batch in batches(new):
                store.apply(batch)
            last = rows[-1]
            store.apply([Entry(len(rows), last.at_ms, "describe", {"markdown": describe(pair, last)})])
            store.apply([Entry(len(rows), last.at_ms, "finish", {"status": "finished", "ended_at_ms": last.at_ms})])
            # last: whoever was killed before does all of it again, which changes nothing
            store.confirm(len(rows))
    return RecordedPair(pair, rows[-1], len(new))


def describe(pair: Pair, tally: Tally) -> str:
    """The result in words, for the run's description and the command line."""
    counts = f"{tally.wins} for it, {tally.losses} for {pair.against}, {tally.ties} ties, {tally.none_good} none good"
    if not tally.num_decided:
        return f"{pair.version}: {counts}. No vote decided yet."
    low, high = tally.interval
    verdict = "better" if low > 0.5 else "worse" if high < 0.5 else "no difference shown"
    share = tally.wins / tally.num_decided
    return f"{pair.version}: {counts}. Preferred in {share:.0%} (95 % interval {low:.0%} to {high:.0%}): {verdict}."


def _card(pair: Pair, *, since_ms: int) -> RunCard:
    """The run of a pair: the time of its first vote sets it apart from that of another home, or of a file before."""
    since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="milliseconds")
    parameters: Mapping[str, str] = {"version": pair.version, "against": pair.against, "since": since}
    return RunCard(
        run_id=f"votes-{pair.version}-against-{pair.against}-{since_ms}",
        experiment=EXPERIMENT,
        recipe_name="blind votes",
        parameters=parameters,
    )
