"""Where a dataset may be written: a new or empty folder, or in place of a dataset that holds nothing else."""

import re
from pathlib import Path

from data_pipelines.lineage.forgetting import FORGOTTEN_NAME
from data_pipelines.split.sticky import SPLIT_NAME
from finetune.contracts.canaries import CANARIES_NAME
from finetune.contracts.dataset import DROPPED_NAME, MANIFEST_NAME, REPORT_NAME, DatasetManifest, Split
from finetune.contracts.egress import EGRESS_NAME
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import digest_file, read_model

SHARD_NAME = re.compile(rf"(?:{'|'.join(Split)})-\d{{5,}}\.parquet")
OUR_NAMES = frozenset(
    {MANIFEST_NAME, DROPPED_NAME, REPORT_NAME, SPLIT_NAME, FORGOTTEN_NAME, CANARIES_NAME, EGRESS_NAME}
)
REBUILD_HINT = "Build it again: finetune data build --repo PATH --out DIR"


def check_target(out: Path) -> None:
    """Raises DatasetError when out is a file, or a folder with anything but a dataset in it; nothing is touched."""
    hint = "Name a new folder with --out."
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file; a dataset is a folder.", hint)
    names = sorted(entry.name for entry in out.iterdir())
    if not names:
        return
    foreign = [name for name in names if not _is_ours(name)]
    if foreign:
        raise DatasetError(f"{out} holds something that is no dataset: {foreign[0]}. It was left as it is.", hint)
    if MANIFEST_NAME not in names:
        raise DatasetError(f"{out} is no dataset: it has no {MANIFEST_NAME}. It was left as it is.", hint)


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of a dataset folder. Raises DatasetError when there is none, or it is damaged."""
    if not folder.is_dir():
        raise DatasetError(f"There is no dataset in {folder}.", REBUILD_HINT)
    return read_model(folder / MANIFEST_NAME, DatasetManifest, error=DatasetError, hint=REBUILD_HINT)


def is_whole(folder: Path, manifest: DatasetManifest) -> bool:
    """Whether every shard has the digest that the manifest names, and the report is there."""
    shards = [(folder / shard.name, shard.sha256) for shard in manifest.shards]
    return (folder / REPORT_NAME).is_file() and all(
        path.is_file() and digest_file(path) == digest for path, digest in shards
    )


def _is_ours(name: str) -> bool:
    return name in OUR_NAMES or bool(SHARD_NAME.fullmatch(name))
