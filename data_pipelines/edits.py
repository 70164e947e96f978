"""The pass over candidate commits: sizes, parsing, redaction, blocks that apply exactly; kept ones become edits."""

from dataclasses import dataclass

from data_pipelines.config import SourceSection
from data_pipelines.document import Change, Commit, Edit, EditFile
from data_pipelines.extract.registry import extractor_for
from data_pipelines.filters.encoding import decode
from data_pipelines.filters.language import is_wanted, language_of
from data_pipelines.history import History
from data_pipelines.mine.blocks import Block, find_hunks, make_blocks, write_blocks
from data_pipelines.mine.message import normalise
from data_pipelines.reading import Reading, Tick, origin_of
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.redactor import ScanFailed
from data_pipelines.sources.git import Repository
from finetune.contracts.dataset import DroppedFile

STAGE = "commit_edit"


@dataclass(frozen=True, slots=True)
class _FileEdit:
    path: str
    before: str
    after: str
    change: Change
    blocks: list[Block]
    num_hunks: int
    num_changed_lines: int


class _Unusable(Exception):
    """A candidate that gives no row; the text is the reason."""


class EditReader:
    """Reads the candidates of one repository, newest first, until max_rows_per_source are kept."""

    def __init__(self, repository: Repository, source: SourceSection, *, reading: Reading) -> None:
        self._repository = repository
        self._source = source
        self._reading = reading
        self._section = reading.config.tasks.commit_edit
        self._units: dict[str, int] = {}

    def read(self, history: History, license_name: str | None, tick: Tick) -> None:
        """Keep or drop each candidate; what the message or file list rejected is noted too."""
        for commit, reason in history.rejected:
            self._drop(commit, reason)
        kept = 0
        for commit in history.candidates:
            if kept == self._section.max_rows_per_source:
                self._drop(commit, f"more than {self._section.max_rows_per_source} newer edits were kept")
                continue
            try:
                self._reading.edits.append(self._edit(commit, license_name))
                kept += 1
            except (_Unusable, ScanFailed) as unusable:
                self._drop(commit, str(unusable))
            tick(f"{self._source.name} {STAGE}")

    def _edit(self, commit: Commit, license_name: str | None) -> Edit:
        languages = self._reading.config.languages
        changes = [change for change in commit.changes if is_wanted(change.path.decode(), languages)]
        self._check_sizes(changes)
        files = [self._file(change) for change in changes]
        if sum(file.num_hunks for file in files) > self._section.max_hunks:
            raise _Unusable(f"more than {self._section.max_hunks} hunks")
        if sum(file.num_changed_lines for file in files) > self._section.max_changed_lines:
            raise _Unusable(f"more than {self._section.max_changed_lines} changed lines")
        written = [write_blocks(file.path, file.blocks) for file in files]
        if None in written:
            raise _Unusable("a line reads like a marker of a block, or the last has no end")
        reading = self._reading
        return Edit(
            repo=self._source.name,
            visibility=self._source.visibility,
            language=language_of(files[0].path, files[0].before) or "",
            origin=origin_of(commit, reading.redactor),
            message=reading.redact(normalise(commit.message) or "", Form.PROSE),
            answer=reading.spool.append("".join(text or "" for text in written).encode("utf-8")),
            license=license_name,
            files=tuple(self._spooled(file) for file in files),
        )

    def _check_sizes(self, changes: list[Change]) -> None:
        left = self._section.max_before_bytes
        for change in changes:
            content = self._repository.content(change.before, max_bytes=left)
            if content is None:
                raise _Unusable(f"files before are larger than {self._section.max_before_bytes} bytes, or missing")
            left -= len(content)

    def _file(self, change: Change) -> _FileEdit:
        path = change.path.decode()
        reason = self._reading.path_reason(path)
        if reason:
            raise _Unusable(reason)
        before, after = self._text(change.before, path), self._text(change.after, path)
        if before.split() == after.split():
            raise _Unusable("changes white space only")
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
        hunks = find_hunks(old, new)
        blocks = make_blocks(before, after, hunks)
        if not blocks:
            raise _Unusable("cannot be written as blocks that apply exactly")
        changed = sum(hunk.num_changed_lines for hunk in hunks)
        return _FileEdit(path, before, after, change, blocks, len(hunks), changed)

    def _text(self, blob: str, path: str) -> str:
        content = self._repository.content(blob, max_bytes=4 * self._section.max_before_bytes)
        if content is None:
            raise _Unusable("a file after the commit is too large, or missing")
        text, reason = decode(content)
        if reason:
            raise _Unusable(reason)
        clean = self._reading.redactor.redact(text, form_of(path)).text
        if not extractor_for(language_of(path, clean) or "").parses(clean.encode("utf-8")):
            raise _Unusable("syntax errors before or after the commit")
        return clean

    def _spooled(self, file: _FileEdit) -> EditFile:
        before, after = file.before.encode("utf-8"), file.after.encode("utf-8")
        return EditFile(
            path=file.path,
            before=self._reading.spool.append(before),
            after_blob=file.change.after,
            num_lines_after=len(file.after.splitlines()),
            units=(self._unit(file.change.before, before), self._unit(file.change.after, after)),
        )

    def _unit(self, blob: str, text: bytes) -> int:
        if blob not in self._units:
            self._units[blob] = self._reading.index.add(text)
        return self._units[blob]

    def _drop(self, commit: Commit, reason: str) -> None:
        self._reading.dropped.add(
            DroppedFile(repo=self._source.name, commit=commit.id, path="", stage=STAGE, reason=reason, bytes=0)
        )
