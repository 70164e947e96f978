"""Blind votes counted: for each pair of versions who won how often, and how sure that is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from finetune.contracts.votes import Vote
from finetune.evaluate.stats import mcnemar_p, share_interval

# what the endpoint calls its base: base- and a digest
BASE_PREFIX = "base-"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two versions that stood in one vote. against is the base where one of them is."""

    version: str
    against: str


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on a pair up to one at at_ms. wins are version's over against; losses the other way.

    A vote among more than two says that the chosen one is better than each other, and nothing about those.
    """

    at_ms: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    none_good: int = 0

    @property
    def num_decided(self) -> int:
        """Votes that preferred one of the two."""
        return self.wins + self.losses

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of wins in the decided votes, as if each came from another reader."""
        return share_interval(self.wins, self.num_decided)

    def figures(self) -> dict[str, float]:
        """Metrics by name. There is no share before a vote decided."""
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties, "none_good": self.none_good}
        values = {f"votes/{name}": float(count) for name, count in counts.items()}
        if self.num_decided:
            low, high = self.interval
            values |= {
                "votes/win_share": self.wins / self.num_decided,
                "votes/win_share_low": low,
                "votes/win_share_high": high,
                "votes/p_value": mcnemar_p(self.wins, self.losses),
            }
        return values


def count_votes(votes: Sequence[Vote]) -> Mapping[Pair, Sequence[Tally]]:
    """For each pair its tally after each vote on it, in the order of votes: later votes change none of the earlier."""
    tallies: dict[Pair, list[Tally]] = {}
    for vote in votes:
        for pair, outcome in _outcomes(vote):
            rows = tallies.setdefault(pair, [])
            before = rows[-1] if rows else Tally()
            rows.append(replace(before, at_ms=vote.at_ms, **{outcome: getattr(before, outcome) + 1}))
    return tallies


def _outcomes(vote: Vote) -> Iterator[tuple[Pair, str]]:
    """Each pair that the vote says something about, and what: a field of Tally."""
    versions = [one.version for one in vote.candidates]
    best = versions[vote.choice] if isinstance(vote.choice, int) else None
    for one, other in combinations(sorted(versions, key=_base_last), 2):
        pair = Pair(one, other)
        if vote.choice == "tie":
            yield pair, "ties"
        elif vote.choice == "none":
            yield pair, "none_good"
        elif best in (one, other):
            yield pair, "wins" if best == one else "losses"


def _base_last(version: str) -> tuple[bool, str]:
    return version.startswith(BASE_PREFIX), version
