"""The held-out sample that chooses between the two forms of a merge."""

import math
from pathlib import Path
from typing import Any

from finetune.adapters.merge_check import Judge
from finetune.contracts.errors import DatasetError
from finetune.contracts.merge import HeldoutSample
from finetune.evaluate.heldout import choose_examples, heldout_rows, score_rows
from finetune.families.registry import family_for
from finetune.model.loading import LoadedBase, load_tokenizer
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import Renderer
from finetune.terminal.progress import Progress


def heldout_judge(
    base: Path, dataset_folder: Path, *, model_type: str, section: EvaluateSection, max_tokens: int
) -> Judge:
    """Score models of the base in the folder base by bits per byte on held-out rows, those that evaluate would take.

    Raises DatasetError when the dataset is damaged or holds nothing out.
    """
    dataset = open_dataset(dataset_folder)
    tokenizer = load_tokenizer(base)
    renderer = Renderer(tokenizer, family_for(model_type).for_tokenizer(tokenizer), max_tokens)
    rows = heldout_rows(choose_examples(dataset, None, seed=section.seed), renderer, max_rows=section.max_rows)
    if not rows:
        raise DatasetError(
            f"{dataset_folder} has no held-out row that fits in {max_tokens} tokens.",
            "Name another with --dataset, or leave it out to merge into the 16-bit weights.",
        )
    num_bytes = sum(row.num_bytes for row in rows)

    def score(loaded: LoadedBase) -> float:
        with Progress("Scoring held-out rows", len(rows)) as progress:
            bits = score_rows(
                loaded.model,
                rows,
                pad_token=_pad_token(tokenizer),
                batch_rows=section.batch_rows,
                progress=progress,
            )
        return math.fsum(bits) / num_bytes

    sample = HeldoutSample(dataset=dataset.manifest.content_digest, num_rows=len(rows), num_bytes=num_bytes)
    return Judge(sample, score)


def _pad_token(tokenizer: Any) -> int:
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found or 0)
