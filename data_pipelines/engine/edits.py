"""A commit as an edit: sizes, parsing, redaction, blocks that apply exactly."""

from collections.abc import Callable
from dataclasses import dataclass

from data_pipelines.config import PipelineConfig
from data_pipelines.document import Change, Commit
from data_pipelines.filters.language import is_wanted, language_of
from data_pipelines.mine.blocks import Hunk, find_hunks, make_blocks
from data_pipelines.mine.message import normalise
from data_pipelines.mine.trivial import FileChange, looks_trivial, trivial_reason
from data_pipelines.redact.form import Form
from finetune.contracts.edit_blocks import Block, write_blocks

Content = Callable[[str], bytes | None]
Redact = Callable[[str, Form], str]
Side = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class FileEdit:
    """One file of an edit, both sides redacted; after_blob is that of the file before redaction."""

    path: str
    language: str
    before: str
    after: str
    changed: tuple[str, str]
    """From the first to the last line that differs, before and after."""
    after_blob: str
    blocks: list[Block]
    num_hunks: int
    num_changed_lines: int


@dataclass(frozen=True, slots=True)
class MadeEdit:
    """message is normalised and redacted, answer holds the search/replace blocks of all files."""

    language: str
    message: str
    answer: str
    files: tuple[FileEdit, ...]


class Unusable(Exception):
    """A commit that gives no row; the text is the reason."""


class EditMaker:
    """Makes edits of one repository's commits.

    content gives a blob, None when it is missing or far too large; side gives its redacted text at a path, or raises
    Unusable.
    """

    def __init__(self, config: PipelineConfig, *, content: Content, side: Side, redact: Redact) -> None:
        self._config = config
        self._content = content
        self._section = config.tasks.commit_edit
        self._side = side
        self._redact = redact

    def make(self, commit: Commit) -> MadeEdit:
        """The edit of a commit. Raises Unusable, and what side and redact raise."""
        section = self._section
        changes = [change for change in commit.changes if is_wanted(change.path.decode(), self._config.languages)]
        self._check_sizes(changes)
        files = [self._file(change) for change in changes]
        if sum(file.num_hunks for file in files) > section.max_hunks:
            raise Unusable(f"more than {section.max_hunks} hunks")
        if sum(file.num_changed_lines for file in files) > section.max_changed_lines:
            raise Unusable(f"more than {section.max_changed_lines} changed lines")
        reason = _trivial(files)
        if reason:
            raise Unusable(reason)
        written = [write_blocks(file.path, file.blocks) for file in files]
        if None in written:
            raise Unusable("a line reads like a marker of a block, or the last has no end")
        return MadeEdit(
            language=files[0].language,
            message=self._redact(normalise(commit.message) or "", Form.PROSE),
            answer="".join(text or "" for text in written),
            files=tuple(files),
        )

    def _check_sizes(self, changes: list[Change]) -> None:
        left = self._section.max_before_bytes
        for change in changes:
            content = self._content(change.before)
            if content is None or len(content) > left:
                raise Unusable(f"files before are larger than {self._section.max_before_bytes} bytes, or missing")
            left -= len(content)

    def _file(self, change: Change) -> FileEdit:
        path = change.path.decode()
        before, after = self._side(change.before, path), self._side(change.after, path)
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
        hunks = find_hunks(old, new)
        blocks = make_blocks(before, after, hunks)
        if not blocks:
            raise Unusable("cannot be written as blocks that apply exactly")
        return FileEdit(
            path=path,
            language=language_of(path, before) or "",
            before=before,
            after=after,
            changed=_changed(old, new, hunks),
            after_blob=change.after,
            blocks=blocks,
            num_hunks=len(hunks),
            num_changed_lines=sum(hunk.num_changed_lines for hunk in hunks),
        )


def _changed(old: list[str], new: list[str], hunks: list[Hunk]) -> tuple[str, str]:
    first, last = hunks[0], hunks[-1]
    return "".join(old[first.start : last.end]), "".join(new[first.new_start : last.new_end])


def _trivial(files: list[FileEdit]) -> str | None:
    """Why the edit teaches nothing; the whole texts are looked at only when the lines that differ may say so."""
    if not looks_trivial([FileChange(*file.changed, file.language) for file in files]):
        return None
    return trivial_reason([FileChange(file.before, file.after, file.language) for file in files])
