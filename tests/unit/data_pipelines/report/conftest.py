"""A dataset that fills every field, made on the spot; hostile text on demand."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.sinks.parquet import DROPPED_SCHEMA, EXAMPLE_SCHEMA
from finetune.contracts.dataset import (
    DROPPED_NAME,
    INFILL_TASKS,
    MANIFEST_NAME,
    CountRow,
    DatasetManifest,
    DroppedFile,
    Example,
    LeakageRow,
    Provenance,
    ReasonCount,
    Role,
    Segment,
    Shard,
    Slice,
    SourceRecord,
    Split,
    SplitRecord,
    Task,
)
from finetune.contracts.io import digest_file, digest_text, write_json

CUT = 1_700_000_000
DAY = 86_400
LANGUAGES = ("python", "go", "rust")
REPOS = ("api", "shop")


def segments_of(task: Task, text: str, *, context: str = "def helper():\n    return 1\n") -> tuple[Segment, ...]:
    """The segments that a task prescribes, with text as what is learned."""
    shown = Segment(role=Role.CONTEXT, text=context, path="lib/helper.py")
    if task in INFILL_TASKS:
        parts = ((Role.PREFIX, "before = 1\n"), (Role.SUFFIX, "\nafter = 2\n"))
        around = tuple(Segment(role=role, text=part) for role, part in parts)
        return (shown, *around, Segment(role=Role.TARGET, text=text, loss=True))
    if task is Task.PRETRAIN:
        return (Segment(role=Role.TARGET, text=text, path="src/a.py", loss=True),)
    asked = Segment(role=Role.INSTRUCTION, text=f"What {task} asks")
    return (asked, shown, Segment(role=Role.ANSWER, text=text, loss=True))


def example_of(number: int, task: Task = Task.PRETRAIN, *, text: str = "value = 1\n", **changes: Any) -> Example:
    """A row whose id and place follow from its number; every fourth is held out."""
    heldout = number % 4 == 3
    fields: dict[str, Any] = {
        "id": digest_text(f"{task} {number}")[:32],
        "task": task,
        "language": LANGUAGES[number % 3],
        "stratum": ("block", "line")[number % 2] if task in INFILL_TASKS else "",
        "segments": segments_of(task, text),
        "provenance": (
            Provenance(
                repo=REPOS[number % 2],
                commit=f"{number:040x}",
                path=f"src/file_{number}.py",
                blob="b" * 40,
                first_line=3,
                last_line=9,
                author="0123456789abcdef",
                committed_at=CUT + (number + 1) * DAY if heldout else CUT - (number + 40) * DAY,
                license="MIT",
            ),
        ),
        "split": Split.HELDOUT if heldout else Split.TRAIN,
        "slice": (Slice.NOVEL if number % 8 == 3 else Slice.EVOLVING) if heldout else None,
        "cluster": f"c{number:07d}",
        "redactions": text.count("REDACTED_"),
        "visibility": "internal",
    }
    return Example(**(fields | changes))


def dropped_of(number: int, stage: str = "language", reason: str = "language yaml is not supported", **changes: Any):
    """A file that was left out."""
    fields = {
        "repo": "api",
        "commit": "c" * 40,
        "path": f"conf/{number}.yaml",
        "stage": stage,
        "reason": reason,
        "bytes": 100 + number,
    }
    return DroppedFile(**(fields | changes))


def save_dataset(
    folder: Path, examples: Sequence[Example], lost: Sequence[DroppedFile] = (), **changes: Any
) -> DatasetManifest:
    """Write rows and a manifest that fits them; changes are fields of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for split in Split:
        rows = [row.model_dump(mode="json") for row in examples if row.split is split]
        if rows:
            path = folder / f"{split}-00000.parquet"
            pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA), path, row_group_size=7)
            shards.append(Shard(name=path.name, split=split, examples=len(rows), sha256=digest_file(path)))
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in lost], schema=DROPPED_SCHEMA)
    pq.write_table(table, folder / DROPPED_NAME)
    slices = Counter(row.slice for row in examples)
    fields: dict[str, Any] = {
        "content_digest": digest_text("\n".join(shard.sha256 for shard in shards)),
        "builder": "finetune 0.0 test",
        "sources": tuple(source_of(repo) for repo in REPOS),
        "settings": '{"seed":0,"dedup":{"jaccard":0.7}}',
        "settings_digest": "5" * 64,
        "split": split_of(novel=slices[Slice.NOVEL], evolving=slices[Slice.EVOLVING]),
        "shards": tuple(shards),
        "counts": counts_of(examples),
        "dropped": reasons_of(lost),
        "redacted": (ReasonCount(stage="redact", reason="password-assignment", count=12),),
    }
    manifest = DatasetManifest(**(fields | changes))
    write_json(folder / MANIFEST_NAME, manifest)
    return manifest


def split_of(**changes: Any) -> SplitRecord:
    """A split in time, with what the gate took out and a comparison."""
    fields: dict[str, Any] = {
        "method": "time",
        "cutoff_at": CUT,
        "train_files": 80,
        "heldout_files": 20,
        "purged": 3,
        "leaked": (ReasonCount(stage="gate", reason="a function is equal in train", count=4),),
        "leakage": (
            LeakageRow(method="random", train=90, heldout=10, near=6),
            LeakageRow(method="time and clusters", train=80, heldout=20, near=0),
        ),
    }
    return SplitRecord(**(fields | changes))


def source_of(repo: str, **changes: Any) -> SourceRecord:
    """A repository of 60 files."""
    fields = {"ref": "HEAD", "commit": "a" * 40, "visibility": "internal", "commits": 9, "files": 60, "bytes": 7000}
    return SourceRecord(repo=repo, **(fields | changes))


def counts_of(examples: Sequence[Example]) -> tuple[CountRow, ...]:
    rows: Counter[tuple[Task, Split, str]] = Counter()
    learned: Counter[tuple[Task, Split, str]] = Counter()
    for row in examples:
        key = (row.task, row.split, row.language)
        rows[key] += 1
        learned[key] += sum(len(segment.text.encode()) for segment in row.segments if segment.loss)
    return tuple(
        CountRow(task=key[0], split=key[1], language=key[2], examples=count, loss_bytes=learned[key])
        for key, count in sorted(rows.items())
    )


def reasons_of(dropped: Sequence[DroppedFile]) -> tuple[ReasonCount, ...]:
    counts = Counter((row.stage, row.reason) for row in dropped)
    return tuple(ReasonCount(stage=stage, reason=why, count=count) for (stage, why), count in sorted(counts.items()))


def full_examples() -> list[Example]:
    """Sixteen rows of every task, two of eight with a placeholder."""
    text = "password = 'REDACTED_PASSWORD_1a2b3c4d'\n"
    return [
        example_of(number, task, text=f"step_{number} = {number}\n" + (text if number % 8 in (1, 4) else ""))
        for task in Task
        for number in range(16)
    ]


def full_drops() -> list[DroppedFile]:
    """Files, twins and edits that were left out: 20 + 5 + 1 + 2 files and 3 commits."""
    return [
        *(dropped_of(number) for number in range(20)),
        *(
            dropped_of(number, "dedup", "near-duplicate of a file that was kept", twin="shop:src/kept.py")
            for number in range(4)
        ),
        dropped_of(9, "dedup", "equal to a file that was kept", twin="api:src/other.py"),
        dropped_of(1, "redact", "the scan for secrets failed: ValueError"),
        *(dropped_of(number, "split", "twin of a held-out file", twin="api:src/new.py") for number in range(2)),
        *(dropped_of(n, "commit_edit", "message says too little", path="", bytes=0) for n in range(2)),
        dropped_of(5, "split", "edit of a held-out file", bytes=0),
    ]


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """make_dataset(examples, lost, **manifest) gives the folder; without arguments one that fills every field."""

    def make(examples: Sequence[Example] | None = None, lost: Sequence[DroppedFile] | None = None, **changes: Any):
        folder = tmp_path / "dataset"
        save_dataset(
            folder,
            full_examples() if examples is None else examples,
            full_drops() if lost is None else lost,
            **changes,
        )
        return folder

    return make


@pytest.fixture(scope="session")
def full_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that fills every field; not to be changed but for its report."""
    folder = tmp_path_factory.mktemp("full") / "dataset"
    save_dataset(folder, full_examples(), full_drops())
    return folder


@pytest.fixture(name="example_of")
def example_maker() -> Callable[..., Example]:
    return example_of


@pytest.fixture(name="dropped_of")
def dropped_maker() -> Callable[..., DroppedFile]:
    return dropped_of


@pytest.fixture(name="source_of")
def source_maker() -> Callable[..., SourceRecord]:
    return source_of


@pytest.fixture(name="split_of")
def split_maker() -> Callable[..., SplitRecord]:
    return split_of


@pytest.fixture(name="segments_of")
def segments_maker() -> Callable[..., tuple[Segment, ...]]:
    return segments_of
