"""Write an evaluation's scores into an adapter's manifest; the manifest is not among the files it digests."""

from collections.abc import Sequence
from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, AdapterManifest, Score
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.io import write_json


def record_scores(folder: Path, scores: Sequence[Score]) -> AdapterManifest:
    """Replace the scores of the verified adapter in folder. Raises AdapterError for a damaged one."""
    manifest = read_adapter(folder).model_copy(update={"scores": tuple(scores)})
    write_json(folder / ADAPTER_MANIFEST_NAME, manifest)
    return manifest
