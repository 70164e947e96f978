"""The held-out sample that chooses between the two forms of a merge."""

import math
from pathlib import Path

from finetune.adapters.merge_check import Judge
from finetune.contracts.errors import DatasetError
from finetune.contracts.merge import HeldoutSample
from finetune.evaluate.heldout_suite import BITS_PER_BYTE, heldout_suite
from finetune.evaluate.suite import Measured, Subject
from finetune.families.registry import family_for
from finetune.model.loading import LoadedBase, load_tokenizer
from finetune.model.scoring import pad_token
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
    suite = heldout_suite(dataset, renderer, section, pad_token=pad_token(tokenizer))
    if suite is None:
        raise DatasetError(
            f"{dataset_folder} has no held-out row that fits in {max_tokens} tokens.",
            "Name another with --dataset, or leave it out to merge into the 16-bit weights.",
        )
    task_ids = [task.id for task in suite.tasks]

    def score(loaded: LoadedBase) -> float:
        bits = []
        with Progress("Scoring held-out rows", len(task_ids)) as progress:

            def told(measured: Measured) -> None:
                bits.append(measured.values[BITS_PER_BYTE.name])
                progress.advance()

            suite.measure(Subject("base", loaded.model), task_ids, told=told)
        return math.fsum(bits) / suite.num_bytes

    sample = HeldoutSample(dataset=dataset.manifest.content_digest, num_rows=len(task_ids), num_bytes=suite.num_bytes)
    return Judge(sample, score)
