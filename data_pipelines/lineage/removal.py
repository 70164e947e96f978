"""`finetune data forget`: what would go and who has seen it, then the removal itself."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

from data_pipelines.engine.work import locked, recover, work_of
from data_pipelines.lineage.dropped import dropped_rows
from data_pipelines.lineage.forgetting import Forgotten, read_forgotten
from data_pipelines.lineage.lineage import Place, key_name_of, rows_with_places
from data_pipelines.lineage.prune import Pruned, authored, prune_work
from data_pipelines.lineage.rewrite import rewrite
from data_pipelines.lineage.seen import Trained, datasets_of, trained_on
from data_pipelines.redact.key import key_name
from data_pipelines.sinks.target import check_target, read_manifest
from finetune.contracts.dataset import DatasetManifest, Split
from finetune.contracts.errors import DatasetError, InputError, UsageError
from finetune.contracts.io import disk_errors
from finetune.contracts.run import Home
from finetune.terminal.output import note

SHOWN_COPIES = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """A dataset that holds some of it: rows in all, and those in train. num_rows None: its authors cannot be told."""

    folder: Path
    digest: str
    num_rows: int | None
    num_train: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What forgetting subject means for the dataset at folder. left counts the rows that would stay, by split.

    copies are "repo:path" of other files that hold the same text or are near-duplicates that were left out for it:
    they stay, or come in with the next build. others and trained are the other datasets, runs and adapters that saw it.
    """

    folder: Path
    manifest: DatasetManifest
    subject: Forgotten
    by_kind: Counter[tuple[str, str]]
    left: Counter[Split]
    num_dropped: int
    copies: tuple[str, ...]
    others: tuple[Holder, ...]
    trained: tuple[Trained, ...]

    @property
    def num_rows(self) -> int:
        """Rows that go."""
        return self.by_kind.total()


def subject_of(folder: Path, *, path: str = "", repo: str = "", author: str = "") -> Forgotten:
    """What is to be forgotten; author is a keyed hash. Raises UsageError unless exactly one is given and its repository
    is one of the dataset.
    """
    if [bool(path), bool(repo), bool(author)].count(True) != 1:
        raise UsageError("Exactly one thing is forgotten at a time.", "Give --path REPO:GLOB, --repo or --author.")
    known = [record.repo for record in read_manifest(folder).sources]
    named = next((name for name in known if path.startswith(f"{name}:")), "") if path else repo
    if not author and named not in known:
        wrong = path or repo
        near = get_close_matches(wrong.partition(":")[0], known, n=1)
        raise UsageError(
            f"No repository of {folder} is called as in {wrong!r}.",
            f"Did you mean {near[0]}{':GLOB' if path else ''}?" if near else f"There are: {', '.join(known[:20])}.",
        )
    if path and not path.removeprefix(f"{named}:").strip("/"):
        raise UsageError(f"{path!r} names no files.", f"Give --repo {named} to forget all of it.")
    return Forgotten(
        repositories=(repo,) if repo else (), paths=(path,) if path else (), authors=(author,) if author else ()
    )


def put_back(folder: Path, *, home: Home) -> None:
    """Where a removal or a build was killed between taking the old dataset away and putting the new one there: undo."""
    work = work_of(home.data, folder)
    if not folder.exists() and folder.parent.is_dir():
        with locked(work) if work.folder.is_dir() else nullcontext():
            recover(folder)


def plan_removal(folder: Path, subject: Forgotten, *, home: Home, key: bytes | None) -> Removal:
    """Look at everything and change nothing. key is the home's, None if it has none."""
    manifest = read_manifest(folder)
    by_kind: Counter[tuple[str, str]] = Counter()
    left: Counter[Split] = Counter()
    blobs: set[str] = set()
    for row in rows_with_places(folder, manifest):
        found = [place for place in row.places if _holds(subject, place)]
        blobs |= {place.blob for place in found}
        if found:
            by_kind[row.task, row.split] += 1
        else:
            left[row.split] += 1
    others = tuple(_others(folder, subject, blobs, home=home, key=key))
    digests = {manifest.content_digest} if by_kind else set()
    digests |= {*read_forgotten(folder).digests, *(holder.digest for holder in others)}
    folders = [folder, *(holder.folder for holder in others)]
    clean = () if by_kind else (manifest.content_digest,)
    return Removal(
        folder=folder,
        manifest=manifest,
        subject=subject,
        by_kind=by_kind,
        left=left,
        num_dropped=sum(bool(subject.reason(row.repo, [row.path], "")) for row in dropped_rows(folder)),
        copies=tuple(_copies(folder, manifest, subject, blobs)),
        others=others,
        trained=tuple(trained_on(home, digests, folders=folders, clean=clean)),
    )


def check_removal(removal: Removal) -> None:
    """Raises DatasetError when a side would have no rows left."""
    for side in Split:
        if removal.num_rows and not removal.left[side]:
            raise DatasetError(
                f"Without it the {side} side of {removal.folder} would have no rows. Nothing was changed.",
                f"Delete {removal.folder} and the runs and adapters that saw it, and build without that source.",
            )


def forget(removal: Removal, *, home: Home, key: bytes | None) -> tuple[DatasetManifest, Pruned | None]:
    """Carry a removal out; the manifest of what stands there now, and what went out of the work folder.

    None: this home has no work folder of the dataset. The work folder is cleaned before the dataset is replaced:
    whenever this is killed the dataset is whole, and the same command ends what it began. Raises DatasetError when the
    dataset was replaced since it was looked at, MachineError when a build is at work.
    """
    check_removal(removal)
    folder = removal.folder
    check_target(folder)
    work = work_of(home.data, folder)
    has_work = work.folder.is_dir()
    with ExitStack() as stack:
        if has_work:
            stack.enter_context(locked(work))
        stack.enter_context(disk_errors(folder))
        recover(folder)
        if read_manifest(folder) != removal.manifest:
            raise DatasetError(f"{folder} was built again meanwhile. Nothing was changed.", "Type the same once more.")
        before = read_forgotten(folder)
        held = (removal.manifest.content_digest,) if removal.num_rows else ()
        forgotten = before | removal.subject | Forgotten(digests=held)
        named: set[str] = set()
        pruned = None
        if has_work:
            # with another key than that of the build nothing is known, and nothing stays
            if removal.subject.authors:
                named = authored(work, removal.manifest, authors=removal.subject.authors, key=key or b"")
            pruned = prune_work(work, removal.manifest, forgotten=forgotten, key=key or b"")
        made = rewrite(folder, removal.manifest, gone=removal.subject, forgotten=forgotten, named=named)
    return made, pruned


def removal_document(removal: Removal) -> dict[str, object]:
    """A removal as JSON has it."""
    return {
        "path": str(removal.folder),
        "digest": removal.manifest.content_digest,
        "forget": removal.subject.names(),
        "rows": removal.num_rows,
        "counts": [{"task": task, "split": split, "rows": n} for (task, split), n in sorted(removal.by_kind.items())],
        "left": {side.value: removal.left[side] for side in Split},
        "left_out_before": removal.num_dropped,
        "copies": removal.copies,
        "datasets": [asdict(other) for other in removal.others],
        "trained": [asdict(item) for item in removal.trained],
    }


def _holds(subject: Forgotten, place: Place) -> bool:
    return bool(subject.reason(place.repo, [place.path], place.author))


def _others(folder: Path, subject: Forgotten, blobs: set[str], *, home: Home, key: bytes | None) -> Iterator[Holder]:
    for other in datasets_of(home):
        if other == folder.resolve():
            continue
        try:
            holder = _holder(other, subject, blobs, key=key)
        except InputError as error:
            note(f"Not looked at: {error.message}")
            continue
        if holder.num_rows != 0:
            yield holder


def _holder(other: Path, subject: Forgotten, blobs: set[str], *, key: bytes | None) -> Holder:
    manifest = read_manifest(other)
    rows = num_train = 0
    for row in rows_with_places(other, manifest):
        # the same text may have come from a repository of another name
        if any(_holds(subject, place) or place.blob in blobs for place in row.places):
            rows += 1
            num_train += row.split is Split.TRAIN
    unknown = bool(subject.authors) and (key is None or key_name_of(manifest) != key_name(key))
    return Holder(other, manifest.content_digest, None if unknown and not rows else rows, num_train)


def _copies(folder: Path, manifest: DatasetManifest, subject: Forgotten, blobs: set[str]) -> list[str]:
    found = {
        f"{place.repo}:{place.path}"
        for row in rows_with_places(folder, manifest)
        for place in row.places
        if place.blob in blobs and not _holds(subject, place)
    }
    for row in dropped_rows(folder):
        repo, _, path = row.twin.partition(":")
        if row.twin and subject.reason(repo, [path], "") and not subject.reason(row.repo, [row.path], ""):
            found.add(f"{row.repo}:{row.path}")
    return sorted(found)
