"""What the control allows to say: did training give more than files of the repository in the prompt would?"""

from collections.abc import Sequence
from dataclasses import replace

from finetune.contracts.adapter import Score
from finetune.contracts.evaluation import Finding, PairedRow
from finetune.evaluate.metric import Metric
from finetune.evaluate.scores import scores_of
from finetune.recipe.schema import EvaluateSection

FOR_BASE_ALONE = "context for the base alone"
"""The end of the names of figures that hold two prompts against each other, and not two models."""
NAME = "gain of the base from context alone"
CLOSES = "Context alone closes the gap: the adapter is better than the base without context, and not shown better than "
CLOSES += "the base with it. Retrieval may give what this training gave."
TRAINED = "Context alone does not close the gap: the adapter without context is better than the base with it."
UNKNOWN = "The adapter is not shown better than the base even without context, so there is no gap to close here."


def context_finding(
    rows: Sequence[PairedRow], *, across: Metric, neither: Metric, section: EvaluateSection
) -> Finding | None:
    """Base with context less base without, as a paired difference, with the sentence that follows; None without rows.

    The base has context in across and none in neither; the adapter has none in either.
    """
    seeing = {row.task_id: row for row in rows if row.metric == across.name}
    blind = {row.task_id: row for row in rows if row.metric == neither.name}
    both = sorted(seeing.keys() & blind.keys())
    if not both:
        return None
    gain = [blind[name].model_copy(update={"metric": NAME, "adapter": seeing[name].base}) for name in both]
    of_context = _score(gain, replace(across, name=NAME), section)
    against_context = _score([seeing[name] for name in both], across, section)
    against_base = _score([blind[name] for name in both], neither, section)
    return Finding(
        name=NAME,
        unit="edit similarity",
        value=of_context.difference,
        low=of_context.low,
        high=of_context.high,
        num_items=len(both),
        text=_sentence(against_context, against_base),
    )


def _sentence(against_context: Score, against_base: Score) -> str:
    if against_context.verdict == "better":
        return TRAINED
    return CLOSES if against_base.verdict == "better" else UNKNOWN


def _score(rows: Sequence[PairedRow], metric: Metric, section: EvaluateSection) -> Score:
    (score,) = scores_of(rows, [metric], resamples=section.resamples, seed=section.seed)
    return score
