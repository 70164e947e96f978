"""The scores of an evaluation: a pure function of rows and metrics, so that whoever has the rows can compute them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import PairedRow, SuiteName
from finetune.evaluate.metric import Metric, Part
from finetune.evaluate.stats import MIN_CLUSTERS, Comparison, PairedRows, compare
from finetune.evaluate.verdict import holm, score_of

UNNAMED = "unnamed"

RowsByMetric = Mapping[tuple[SuiteName, str], Sequence[PairedRow]]


@dataclass(frozen=True, slots=True)
class _Figure:
    """What is to become a score: a metric over all its rows, or over those of one part."""

    metric: Metric
    by: Part | None
    part: str
    by_repo: bool
    found: Comparison


def scores_of(rows: Sequence[PairedRow], metrics: Sequence[Metric], *, resamples: int, seed: int) -> tuple[Score, ...]:
    """The scores of metrics over rows: the primary one, the others as metrics has them, then each by its parts.

    The same rows, in any order, give the same scores, bit for bit. A metric without rows, or whose sizes are all 0, has
    no score; a metric has parts where a column of its metric.by has at least two values. Secondary figures are adjusted
    for each other by Holm, and so are parts among themselves: parts say where, and should not cost others a verdict.
    Raises ValueError for a pass or fail that is neither 0 nor 1.
    """
    by_metric = _grouped(rows)
    ordered = sorted(metrics, key=lambda metric: not metric.primary)
    whole = [
        _figure(metric, (None, ""), of_metric, resamples=resamples, seed=seed)
        for metric in ordered
        if _measured(of_metric := by_metric.get((metric.suite, metric.name), ()))
    ]
    parts = [
        _figure(metric, part, of_part, resamples=resamples, seed=seed)
        for metric in ordered
        for part, of_part in _parts(metric, by_metric.get((metric.suite, metric.name), ()))
        if _measured(of_part)
    ]
    primary = [_score(figure) for figure in whole if figure.metric.primary]
    others = [figure for figure in whole if not figure.metric.primary]
    return (*primary, *_adjusted(others), *_adjusted(parts))


def _grouped(rows: Sequence[PairedRow]) -> RowsByMetric:
    """Rows by suite and metric. Sums depend on the order in their last bit, so it is one that the rows decide."""
    found: dict[tuple[SuiteName, str], list[PairedRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.task_id, row.base, row.adapter, row.size)):
        found[row.suite, row.metric].append(row)
    return found


def _measured(rows: Sequence[PairedRow]) -> bool:
    return any(row.size > 0 for row in rows)


def _parts(metric: Metric, rows: Sequence[PairedRow]) -> Iterator[tuple[tuple[Part, str], list[PairedRow]]]:
    """Each part's column and name, and its rows; a name that another column has too is told apart by its column's."""
    taken: set[str] = set()
    for column in metric.by:
        found: dict[str, list[PairedRow]] = defaultdict(list)
        for row in rows:
            found[str(getattr(row, column)) or UNNAMED].append(row)
        if len(found) < 2:
            continue
        for value in sorted(found):
            name = f"{value} ({column})" if value in taken else value
            taken.add(name)
            yield (column, name), found[value]


def _figure(
    metric: Metric, part: tuple[Part | None, str], rows: Sequence[PairedRow], *, resamples: int, seed: int
) -> _Figure:
    by_repo = len({row.repo for row in rows}) >= MIN_CLUSTERS
    paired = PairedRows(
        base=[row.base for row in rows],
        adapter=[row.adapter for row in rows],
        size=[row.size for row in rows],
        clusters=[cluster_of(row, by_repo=by_repo) for row in rows],
    )
    return _Figure(metric, *part, by_repo, compare(paired, metric.kind, resamples=resamples, seed=seed))


def cluster_of(row: PairedRow, *, by_repo: bool) -> str:
    """What is drawn as a whole: the row's repository with all its files, or the file or its near-duplicates.

    Rows of a repository are alike and those of a file more so. With MIN_CLUSTERS repositories they are the sample, and
    the verdict is about repositories like them. With fewer, their files are, and it is about files of these very
    repositories. Files are not drawn a second time within the repositories drawn: that would count their spread twice
    (Davison and Hinkley, "Bootstrap Methods and Their Application", 1997, section 3.8).
    """
    if by_repo:
        return row.repo
    return f"{row.repo}\n{row.cluster or row.path or row.task_id}"


def _score(figure: _Figure, *, adjusted: float | None = None, num_compared: int = 1) -> Score:
    score = score_of(figure.metric, figure.found, adjusted=adjusted, num_compared=num_compared)
    clusters = "repositories" if figure.by_repo else "files"
    return score.model_copy(update={"part": figure.part, "by": figure.by or "", "clusters": clusters})


def _adjusted(figures: Sequence[_Figure]) -> list[Score]:
    adjusted = holm([figure.found.p_value for figure in figures])
    return [
        _score(figure, adjusted=p_value, num_compared=len(figures))
        for figure, p_value in zip(figures, adjusted, strict=True)
    ]
