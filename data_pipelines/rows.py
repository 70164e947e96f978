"""The second pass: which documents and edits go where, and the rows mined from them into the sink."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from data_pipelines.document import Document, Edit
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.commit_edit import mine_commit_edit
from data_pipelines.mine.context import ContextFinder
from data_pipelines.mine.docstring import mine_docstring
from data_pipelines.mine.infill import mine_infill
from data_pipelines.mine.pretrain import mine_pretrain
from data_pipelines.mine.row import Row
from data_pipelines.reading import Reading
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.redactor import ScanFailed
from data_pipelines.sinks.parquet import ShardSink
from data_pipelines.split.assign import Item, SplitPlan
from finetune.contracts.dataset import DroppedFile, Role, Segment, Split, Task

# a held-out target of at least this many bytes that some train row teaches word for word proves nothing
MIN_NOVEL_BYTES = 40


@dataclass
class Sides:
    """Documents and edits of each side after twins were taken out; purged counts train files with a held-out twin."""

    documents: dict[Split, list[Document]]
    edits: dict[Split, list[Edit]]
    purged: int


def divide(reading: Reading, plan: SplitPlan, clusters: list[int]) -> Sides:
    """Give each document and edit its side; of a cluster one file is kept: the oldest in train, the newest held out."""
    documents: dict[Split, list[Document]] = {side: [] for side in Split}
    edits: dict[Split, list[Edit]] = {side: [] for side in Split}
    purged = 0
    for document in reading.documents:
        placement = plan.place(file_item(document, clusters))
        if placement is None:
            purged += 1
            _drop(reading, document, stage="split", reason="twin of a held-out file")
        else:
            documents[placement.split].append(document)
    for edit, item in zip(reading.edits, edit_items(reading, clusters), strict=True):
        placement = plan.place(item)
        if placement is None:
            reading.dropped.add(
                DroppedFile(
                    repo=edit.repo,
                    commit=edit.origin.commit,
                    path=edit.files[0].path,
                    stage="split",
                    reason="edit of a held-out file",
                    bytes=0,
                )
            )
        else:
            edits[placement.split].append(edit)
    return Sides({side: _one_per_cluster(reading, documents[side], clusters, side) for side in Split}, edits, purged)


def edit_items(reading: Reading, clusters: list[int]) -> list[Item]:
    """Edits for the split, in their order: time, and the clusters of their files before, after, and at the head.

    The head counts although it may be far from what an old commit saw: an edit of a held-out file teaches that file.
    """
    heads = {(document.repo, document.path): document.unit for document in reading.documents}
    items = []
    for edit in reading.edits:
        units = {unit for file in edit.files for unit in file.units}
        units |= {heads[key] for file in edit.files if (key := (edit.repo, file.path)) in heads}
        name = f"{edit.repo}:{edit.origin.commit}"
        items.append(Item(name, edit.origin.time, tuple(sorted({clusters[unit] for unit in units}))))
    return items


def file_item(document: Document, clusters: list[int]) -> Item:
    """A file for the split; without memory of earlier builds its unit tells it apart."""
    return Item(str(document.unit), document.origin.time, (clusters[document.unit],))


class RowWriter:
    """Mines documents and edits; train goes first, so that what it teaches is known when the other side is mined."""

    def __init__(self, reading: Reading, clusters: list[int], sink: ShardSink) -> None:
        self._reading = reading
        self._clusters = clusters
        self._sink = sink
        self._taught: set[bytes] = set()

    def write(self, sides: Sides, tick: Callable[[str], None]) -> None:
        """Write every row, train before heldout; tick is called once per document."""
        for side in Split:
            finders = self._finders(sides, side)
            for document in sides.documents[side]:
                self._add(self._mine(document, finders[document.repo]), side, self._cluster(document.unit))
                tick(f"mining {side}")
            for edit in sides.edits[side]:
                self._add([mine_commit_edit(edit, self._reading.spool)], side, self._cluster(edit.files[0].units[1]))

    def _finders(self, sides: Sides, side: Split) -> dict[str, ContextFinder]:
        """Context of train rows comes from train files alone; held-out rows may see both."""
        shown = sides.documents[Split.TRAIN] + (sides.documents[Split.HELDOUT] if side is Split.HELDOUT else [])
        by_repo: dict[str, dict[str, Document]] = defaultdict(dict)
        for document in shown:
            by_repo[document.repo][document.path] = document
        return {repo: ContextFinder(found, self._clusters, self._reading.spool) for repo, found in by_repo.items()}

    def _mine(self, document: Document, finder: ContextFinder) -> list[Row]:
        tasks, seed = self._reading.config.tasks, self._reading.config.seed
        text = self._reading.spool.read(document.text)
        extractor = extractor_for(document.language)
        units = extractor.units(text)
        rows: list[Row] = []
        if tasks.infill.enabled:
            context = finder.imported(document, units, extractor=extractor, section=tasks.infill)
            rows += mine_infill(document, text, units=units, context=context, section=tasks.infill, seed=seed)
        if tasks.docstring.enabled:
            rows += mine_docstring(document, text, units=units, extractor=extractor, section=tasks.docstring, seed=seed)
        if tasks.pretrain.enabled:
            rows += mine_pretrain(document, text, tasks.pretrain)
        return rows

    def _add(self, rows: Iterable[Row], side: Split, cluster: str) -> None:
        for row in rows:
            unclean = self._unclean(row)
            if unclean:
                self._reading.dropped.count(row.task, unclean)
                continue
            key = _learned_key(row)
            if side is Split.TRAIN and key:
                self._taught.add(key)
            elif key in self._taught:
                self._reading.dropped.count(row.task, "a train row has the same target")
                continue
            self._sink.add(row.example(side, cluster))

    def _unclean(self, row: Row) -> str:
        """Why a row must not be written, "" when nothing speaks against it: the last scan, over what is written."""
        try:
            for segment in row.segments:
                found = self._reading.redactor.rules_that_hit(segment.text, _form(row, segment))
                if found:
                    return f"the last scan found a secret: {found[0]}"
        except ScanFailed as failed:
            return str(failed)
        return ""

    def _cluster(self, unit: int) -> str:
        return f"c{self._clusters[unit]:07d}"


def _form(row: Row, segment: Segment) -> Form:
    if row.task is Task.COMMIT_EDIT and segment.role is Role.INSTRUCTION:
        return Form.PROSE
    return form_of(segment.path or row.provenance[0].path)


def _learned_key(row: Row) -> bytes:
    """A digest of the learned text without its white space; empty for a text too short to tell anything."""
    text = "".join("".join(segment.text.split()) for segment in row.segments if segment.loss).encode("utf-8")
    return blake2b(text, digest_size=16).digest() if len(text) >= MIN_NOVEL_BYTES else b""


def _one_per_cluster(reading: Reading, documents: list[Document], clusters: list[int], side: Split) -> list[Document]:
    newest_first = -1 if side is Split.HELDOUT else 1
    best: dict[int, Document] = {}
    for document in documents:
        other = best.get(clusters[document.unit])
        if other is None or newest_first * document.origin.time < newest_first * other.origin.time:
            best[clusters[document.unit]] = document
    kept = {document.unit for document in best.values()}
    for document in documents:
        if document.unit not in kept:
            _drop(
                reading, document, stage="dedup", reason=_twin_reason(reading, document, best[clusters[document.unit]])
            )
    return [document for document in documents if document.unit in kept]


def _twin_reason(reading: Reading, document: Document, kept: Document) -> str:
    same = reading.spool.read(document.text) == reading.spool.read(kept.text)
    return "equal to a file that was kept" if same else "near-duplicate of a file that was kept"


def _drop(reading: Reading, document: Document, *, stage: str, reason: str) -> None:
    reading.dropped.add(
        DroppedFile(
            repo=document.repo,
            commit=document.origin.commit,
            path=document.path,
            stage=stage,
            reason=reason,
            bytes=document.bytes,
        )
    )
