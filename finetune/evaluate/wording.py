"""Figures and verdicts in words: the same in the terminal, on the page and in the tracked run."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import EvaluationReport, Finding, SuiteName, SuiteReport
from finetune.evaluate.control_text import FOR_BASE_ALONE

Direction: TypeAlias = Literal["lower is better", "higher is better"]
SHARE = "share"
WHERE: Mapping[SuiteName, str] = MappingProxyType(
    {
        SuiteName.HELDOUT: "on your own held-out code",
        SuiteName.INFILL: "at filling gaps in your own held-out code",
        SuiteName.EXECUTED: "at code that your own tests grade",
        SuiteName.RETENTION: "at general code and instructions",
        SuiteName.LEAKAGE: "at keeping training text to itself",
        SuiteName.CONTROL: "than the base that reads your code in its prompt",
    }
)
ASKS: Mapping[SuiteName, str] = MappingProxyType(
    {
        SuiteName.HELDOUT: "How well does each model predict code that was held out of training?",
        SuiteName.INFILL: "Does each model write what the author wrote, in gaps of held-out files?",
        SuiteName.EXECUTED: "Does the code that each model writes pass the repository's own tests?",
        SuiteName.RETENTION: "Can the adapter still do what the base could: general code, and instructions?",
        SuiteName.LEAKAGE: "Can text of the training data be drawn out of the adapter?",
        SuiteName.CONTROL: "Would the base do as well with code of the repository in its prompt, without training?",
    }
)
# what stays open where a suite was not measured
OPEN: Mapping[SuiteName, str] = MappingProxyType(
    {
        SuiteName.HELDOUT: "how well it predicts held-out code",
        SuiteName.INFILL: "whether it writes what your authors write",
        SuiteName.EXECUTED: "whether the code that it writes passes tests",
        SuiteName.RETENTION: "whether it forgot something that the base can do",
        SuiteName.LEAKAGE: "whether training text can be drawn out of it",
        SuiteName.CONTROL: "whether the base would do as well with your code in its prompt",
    }
)
TITLES: Mapping[str, str] = MappingProxyType(
    {"better": "Better", "no worse": "No worse", "not shown": "Not shown to be better", "worse": "Worse"}
)


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict for a person who reads nothing else: a title, what was found, what it rests on, what speaks against.

    open lists what the evaluation does not show.
    """

    verdict: str
    title: str
    found: str
    basis: str
    against: tuple[str, ...]
    open: tuple[str, ...]


def headline(report: EvaluationReport, *, num_repos: int = 0) -> Headline:
    """The verdict of report in words; num_repos 0: not known."""
    suite = next((suite for suite in report.suites if suite.scores), None)
    if suite is None:
        nothing = "No figure of the adapter was compared with one of the base."
        return Headline("not shown", "No verdict", nothing, "", against(report), _open(report))
    score = suite.scores[0]
    places = counted(score.num_clusters, cluster_noun(score))
    if num_repos and score.clusters == "files":
        places += f" of {counted(num_repos, 'repository')}"
    return Headline(
        verdict=score.verdict,
        title=f"{TITLES[score.verdict]} {WHERE[suite.suite]}",
        found=_found(suite.suite, score),
        basis=(
            f"It rests on {counted(score.num_items, 'task')} in {places}. Both models had the same ones, and this "
            "figure was named before anything was measured."
        ),
        against=against(report),
        open=_open(report),
    )


def against(report: EvaluationReport) -> tuple[str, ...]:
    """What speaks against the adapter beside the primary figure: whatever is worse, and each limit that is passed.

    Where the base alone has context in its prompt, "worse" says what retrieval gives, and nothing of a harm.
    """
    worse = [
        f"{capital(score.name)} is worse: {change(score)}."
        for score in report.scores[1:]
        if score.verdict == "worse" and not score.part and not score.name.endswith(FOR_BASE_ALONE)
    ]
    return (*worse, *(over_limit(finding) for suite in report.suites for finding in suite.findings if failed(finding)))


def failed(finding: Finding) -> bool:
    """Whether it is known to be over its limit; None is not known."""
    return finding.ok is False


def over_limit(finding: Finding) -> str:
    """A finding that failed, in a sentence."""
    limit = "" if finding.limit is None else f", and the limit is {figure(finding.limit, finding.unit)}"
    return f"{capital(finding.name)} is {figure(finding.value, finding.unit)}{limit}."


def figure(value: float, unit: str) -> str:
    """A figure with as many digits as are of use; shares are percent."""
    return f"{100 * value:.1f} %" if unit == SHARE else f"{value:.3f}"


def gap(value: float, unit: str) -> str:
    """A difference of two figures, with its sign; shares differ by percentage points."""
    return f"{100 * value:+.1f} points" if unit == SHARE else f"{value:+.3f}"


def interval(score: Score) -> str:
    """The 95 % interval of the difference."""
    low, high = gap(score.low, score.unit), gap(score.high, score.unit)
    return f"{low.removesuffix(' points')} to {high}"


def change(score: Score) -> str:
    """Base, adapter and the interval of the difference, in brackets."""
    before, after = figure(score.base, score.unit), figure(score.adapter, score.unit)
    return f"{before} → {after} (difference {interval(score)})"


def probability(value: float | None) -> str:
    """A p-value, "" where none was computed."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def direction_of(score: Score) -> Direction:
    """Which way is good. Of scores from before that was written the verdict tells, or that they are of bits."""
    if score.direction:
        return score.direction
    if score.verdict in ("better", "worse") and score.difference:
        return "higher is better" if (score.difference > 0) == (score.verdict == "better") else "lower is better"
    return "lower is better" if "bits" in score.name.split() else "higher is better"


def toward_better(score: Score, value: float) -> float:
    """value, a difference, with its sign turned so that more is better."""
    return -value if direction_of(score) == "lower is better" else value


def needed(score: Score) -> str:
    """How many tasks would show a difference as large as this one, "" where none needs to be said."""
    return "" if score.num_needed is None else f"about {counted(score.num_needed, 'task')} would be needed"


def cluster_noun(score: Score) -> str:
    """What num_clusters counts, one of them."""
    return "repository" if score.clusters == "repositories" else "file"


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 task", "2,000 repositories"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"


def capital(text: str) -> str:
    """The same with a capital at the start."""
    return text[:1].upper() + text[1:]


def unasked(report: EvaluationReport) -> tuple[SuiteName, ...]:
    """Suites that the report has nothing about, because they were not asked for."""
    return tuple(name for name in SuiteName if report.suite(name) is None)


def unmeasured(report: EvaluationReport) -> tuple[SuiteReport, ...]:
    """Suites that were asked for and could not be measured."""
    return tuple(suite for suite in report.suites if not suite.measured)


def _found(suite: SuiteName, score: Score) -> str:
    if score.verdict == "not shown":
        more = f"; to show a difference of this size, {needed(score)}" if score.num_needed else ""
        return (
            f"The data do not show that the adapter is better or worse: {score.name} {change(score)}. Anything within "
            f"that interval fits them{more}."
        )
    if suite is SuiteName.HELDOUT and score.base > 0:
        less = "fewer" if score.difference < 0 else "more"
        share = 100 * abs(score.difference) / score.base
        return (
            f"The adapter needs {share:.1f} % {less} bits than the base to predict code that was held out of training: "
            f"{score.name} {change(score)}."
        )
    return f"{capital(score.name)}: {change(score)}."


def _open(report: EvaluationReport) -> tuple[str, ...]:
    measured = {suite.suite for suite in report.suites if suite.measured}
    lines = [text for name, text in OPEN.items() if name not in measured]
    if not report.engine.served:
        lines.append("how it answers through the endpoint that serves it")
    return (*lines, "what training again with another seed would give, or code of other repositories than these")
