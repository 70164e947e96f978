"""Scores of the rows and gaps of a held-out split."""

from collections.abc import Sequence

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import PairedRow, SuiteName
from finetune.evaluate.metric import Direction, Metric
from finetune.evaluate.rows import GapFigure, RowFigure
from finetune.evaluate.scores import scores_of
from finetune.recipe.schema import EvaluateSection

METRICS = (
    Metric(SuiteName.HELDOUT, "bits per byte", "", "lower is better", "ratio", primary=True, by=("group",)),
    Metric(SuiteName.INFILL, "infill exact match", "share", "higher is better", "pass or fail"),
    Metric(SuiteName.INFILL, "infill edit similarity", "0 to 1", "higher is better", "mean"),
)
DIRECTIONS: dict[str, Direction] = {metric.name: metric.direction for metric in METRICS}


def figure_scores(rows: Sequence[RowFigure], gaps: Sequence[GapFigure], section: EvaluateSection) -> tuple[Score, ...]:
    """Bits per byte over all rows first, decided on before any was seen; then infill, then bits per byte by task.

    There must be a row; without gaps there are no infill scores.
    """
    paired = [_of_row(place, row) for place, row in enumerate(rows)]
    for place, gap in enumerate(gaps):
        paired.append(_of_gap(place, gap, METRICS[1], float(gap.base_exact), float(gap.adapter_exact)))
        paired.append(_of_gap(place, gap, METRICS[2], gap.base_similarity, gap.adapter_similarity))
    scores = scores_of(paired, METRICS, resamples=section.resamples, seed=section.seed)
    return tuple(
        score.model_copy(update={"name": f"{score.name}, {score.part}"}) if score.part else score for score in scores
    )


def _of_row(place: int, row: RowFigure) -> PairedRow:
    return PairedRow(
        suite=SuiteName.HELDOUT,
        metric=METRICS[0].name,
        task_id=f"{row.example_id} {place}",
        cluster=row.cluster,
        path=row.path,
        group=row.task.value.replace("_", " "),
        base=row.base_bits,
        adapter=row.adapter_bits,
        size=row.num_bytes,
    )


def _of_gap(place: int, gap: GapFigure, metric: Metric, *values: float) -> PairedRow:
    return PairedRow(
        suite=metric.suite,
        metric=metric.name,
        task_id=f"{gap.example_id} {place}",
        cluster=gap.cluster,
        path=gap.path,
        group=gap.stratum,
        base=values[0],
        adapter=values[1],
    )
