"""Which tasks are shown: the largest wins and losses of each suite, by a rule that looks at nothing but figures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import Answer, PairedRow, SuiteName, SuiteReport
from finetune.evaluate.page.differ import Code, compared, plain, tail
from finetune.evaluate.wording import figure, toward_better
from finetune.pages.text import name

CASES_PER_SIDE = 5
# what could be drawn out of the adapter is not for a page that is passed on
UNSHOWN = frozenset({SuiteName.LEAKAGE})
RULE = (
    "Tasks are put in order by how much each moves the suite's first figure in the adapter's favour, then the next "
    "ones, then by their id, which is a digest. Shown are the "
    f"first {CASES_PER_SIDE} and the last {CASES_PER_SIDE} of that order, as far as they are ahead or behind at all. "
    "Nobody chose among them; all answers are in answers.parquet."
)
BASES: Mapping[SuiteName, str] = {SuiteName.CONTROL: "Base with context"}


@dataclass(frozen=True, slots=True)
class Case:
    """A task with what was wanted and what both wrote; wanted None: the suite keeps no text. figures are in words."""

    anchor: str
    place: Markup
    chips: tuple[Markup, ...]
    figures: tuple[tuple[str, str, str], ...]
    prompt: Code | None
    wanted: Code | None
    base: Code | None
    adapter: Code | None
    note: Markup


@dataclass(frozen=True, slots=True)
class Cases:
    """Wins and losses of a suite, and how many there are in all, ties apart."""

    suite: str
    base_name: str
    wins: tuple[Case, ...]
    losses: tuple[Case, ...]
    num_wins: int
    num_losses: int
    num_ties: int

    @property
    def with_code(self) -> bool:
        """Whether the suite keeps text at all."""
        return any(case.base is not None for case in (*self.wins, *self.losses))


def cases(suite: SuiteReport, rows: Sequence[PairedRow], answers: Mapping[str, Answer]) -> Cases | None:
    """The cases of a suite from its rows and its answers by task; None where there is nothing to tell apart."""
    scores = [score for score in suite.scores if not score.part]
    if not scores or suite.suite in UNSHOWN:
        return None
    by_task: dict[str, dict[str, PairedRow]] = defaultdict(dict)
    for row in rows:
        by_task[row.task_id][row.metric] = row
    ahead = {task: tuple(_gain(found.get(score.name), score) for score in scores) for task, found in by_task.items()}
    zero = (0.0,) * len(scores)
    ordered = sorted(ahead, key=lambda task: (*(-gain for gain in ahead[task]), task))
    wins = [task for task in ordered if ahead[task] > zero]
    losses = [task for task in reversed(ordered) if ahead[task] < zero]

    def shown(tasks: Sequence[str], side: str) -> tuple[Case, ...]:
        return tuple(
            _case(f"{suite.suite}-{side}-{place}", list(by_task[task].values()), scores, answers.get(task))
            for place, task in enumerate(tasks[:CASES_PER_SIDE], 1)
        )

    return Cases(
        suite=suite.suite,
        base_name=BASES.get(suite.suite, "Base"),
        wins=shown(wins, "win"),
        losses=shown(losses, "loss"),
        num_wins=len(wins),
        num_losses=len(losses),
        num_ties=len(ordered) - len(wins) - len(losses),
    )


def _gain(row: PairedRow | None, score: Score) -> float:
    return toward_better(score, row.adapter - row.base) if row is not None else 0.0


def _case(anchor: str, rows: Sequence[PairedRow], scores: Sequence[Score], answer: Answer | None) -> Case:
    row = rows[0]
    chips = tuple(name(text) for text in (row.language, row.group, row.slice) if text)
    place = f"{row.repo}:{row.path}" if row.repo else row.path or row.task_id
    units = {score.name: score.unit for score in scores}
    figures = tuple(
        (found.metric, figure(_value(found, found.base), unit), figure(_value(found, found.adapter), unit))
        for found in rows
        if (unit := units.get(found.metric)) is not None
    )
    if answer is None or not (answer.wanted or answer.base or answer.adapter):
        return Case(anchor, name(place), chips, figures, None, None, None, None, Markup(""))
    return Case(
        anchor=anchor,
        place=name(place),
        chips=chips,
        figures=figures,
        prompt=tail(answer.prompt) if answer.prompt else None,
        wanted=plain(answer.wanted) if answer.wanted else None,
        base=compared(answer.base, answer.wanted) if answer.wanted else plain(answer.base),
        adapter=compared(answer.adapter, answer.wanted) if answer.wanted else plain(answer.adapter),
        note=name(answer.note),
    )


def _value(row: PairedRow, total: float) -> float:
    return total / row.size if row.size else total
