"""The scores of an evaluation, the primary one first: each a figure of both models with the interval between them."""

from collections.abc import Sequence

from finetune.contracts.adapter import Score
from finetune.contracts.dataset import Task
from finetune.evaluate.rows import GapFigure, RowFigure
from finetune.evaluate.stats import Direction, PairedRows, compare
from finetune.recipe.schema import EvaluateSection

BITS_PER_BYTE = "bits per byte"
EXACT_MATCH = "infill exact match"
EDIT_SIMILARITY = "infill edit similarity"
DIRECTIONS: dict[str, Direction] = {
    BITS_PER_BYTE: "lower is better",
    EXACT_MATCH: "higher is better",
    EDIT_SIMILARITY: "higher is better",
}


def scores_of(rows: Sequence[RowFigure], gaps: Sequence[GapFigure], section: EvaluateSection) -> tuple[Score, ...]:
    """Bits per byte over all rows first, decided on before any was seen; then infill, then bits per byte by task.

    There must be a row; without gaps there are no infill scores.
    """
    scores = [_bits(BITS_PER_BYTE, rows, section)]
    if gaps:
        exact = [(float(gap.base_exact), float(gap.adapter_exact)) for gap in gaps]
        near = [(gap.base_similarity, gap.adapter_similarity) for gap in gaps]
        scores.append(_mean(EXACT_MATCH, "share", gaps, values=exact, section=section))
        scores.append(_mean(EDIT_SIMILARITY, "0 to 1", gaps, values=near, section=section))
    present = [task for task in Task if any(row.task is task for row in rows)]
    if len(present) > 1:
        for task in present:
            of_task = [row for row in rows if row.task is task]
            scores.append(_bits(f"{BITS_PER_BYTE}, {task.value.replace('_', ' ')}", of_task, section))
    return tuple(scores)


def metric_key(name: str) -> str:
    """The name of a score or task as metrics have it: infill_exact_match."""
    return name.replace(" ", "_")


def _bits(name: str, rows: Sequence[RowFigure], section: EvaluateSection) -> Score:
    paired = PairedRows(
        base=[row.base_bits for row in rows],
        adapter=[row.adapter_bits for row in rows],
        size=[row.num_bytes for row in rows],
        clusters=[row.cluster for row in rows],
    )
    return _score(name, "", paired, section)


def _mean(
    name: str, unit: str, gaps: Sequence[GapFigure], *, values: Sequence[tuple[float, float]], section: EvaluateSection
) -> Score:
    paired = PairedRows(
        base=[base for base, _ in values],
        adapter=[adapter for _, adapter in values],
        size=[1.0] * len(values),
        clusters=[gap.cluster for gap in gaps],
    )
    return _score(name, unit, paired, section)


def _score(name: str, unit: str, paired: PairedRows, section: EvaluateSection) -> Score:
    direction = DIRECTIONS[name.split(",", maxsplit=1)[0]]
    found = compare(paired, direction, resamples=section.resamples, seed=section.seed)
    return Score(
        name=name,
        unit=unit,
        base=found.base,
        adapter=found.adapter,
        difference=found.difference,
        low=found.low,
        high=found.high,
        num_items=found.num_items,
        num_clusters=found.num_clusters,
        verdict=found.verdict,
    )
