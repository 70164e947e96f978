"""Open a dataset folder after proving that it is the one its manifest describes, and read its rows in a fixed order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from finetune.contracts.dataset import MANIFEST_NAME, DatasetManifest, Example, Split, Task
from finetune.contracts.errors import DatasetError
from finetune.contracts.io import digest_file, digest_text, read_model

HINT = "Build it again with `finetune data build`, or copy the whole folder again from where it was made."
BATCH_ROWS = 512


@dataclass(frozen=True)
class OpenDataset:
    """A dataset whose files were checked."""

    folder: Path
    manifest: DatasetManifest

    def examples(self, split: Split, tasks: Sequence[Task] | None = None) -> Iterator[Example]:
        """Rows of a split in shard and row order; tasks None gives all. Raises DatasetError for a broken row."""
        for shard in sorted(self.manifest.shards, key=lambda shard: shard.name):
            if shard.split is not split:
                continue
            for example in _read_shard(self.folder / shard.name):
                if tasks is None or example.task in tasks:
                    yield example


def open_dataset(folder: Path) -> OpenDataset:
    """Verify the manifest, each shard's digest and the content digest. Raises DatasetError naming what fails."""
    if not folder.is_dir():
        raise DatasetError(f"There is no dataset in {folder}.", "Make one: finetune data build --repo PATH --out DIR")
    manifest = read_model(folder / MANIFEST_NAME, DatasetManifest, error=DatasetError, hint=HINT)
    for shard in manifest.shards:
        path = folder / shard.name
        if not path.is_file():
            raise DatasetError(f"{path} is missing from the dataset.", HINT)
        if digest_file(path) != shard.sha256:
            raise DatasetError(f"{path} does not have the digest that the manifest names: it was cut or altered.", HINT)
    if content_digest(manifest) != manifest.content_digest:
        raise DatasetError(f"{folder / MANIFEST_NAME} names shards that do not give its content digest.", HINT)
    return OpenDataset(folder=folder, manifest=manifest)


def content_digest(manifest: DatasetManifest) -> str:
    """The digest that identifies the dataset: of its shards' digests in name order, one per line."""
    shards = sorted(manifest.shards, key=lambda shard: shard.name)
    return digest_text("\n".join(shard.sha256 for shard in shards))


def _read_shard(path: Path) -> Iterator[Example]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in batch.to_pylist():
                    yield Example.model_validate(row)
    except (pa.ArrowInvalid, OSError) as cause:
        raise DatasetError(f"{path} cannot be read: {cause}.", HINT) from cause
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{path} holds a row that is no example: {where}: {first['msg']}.", HINT) from cause
