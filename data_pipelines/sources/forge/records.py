"""What all forges have in common: requests, comments on lines, threads of them, and what could not be used."""

from dataclasses import dataclass
from enum import StrEnum


class Forge(StrEnum):
    """Whose export it is."""

    GITHUB = "github"
    GITLAB = "gitlab"


class Side(StrEnum):
    """Which version of the file a line counts in: after the request's changes, or before them."""

    NEW = "new"
    OLD = "old"


class Kind(StrEnum):
    """A comment in words, or one that writes out what the lines shall become."""

    COMMENT = "comment"
    SUGGESTION = "suggestion"


@dataclass(frozen=True, slots=True)
class ReviewComment:
    """One message. author_key is the forge's own name or number of the person and must not be written to a dataset.

    created_at is in seconds since 1970.
    """

    author_key: str
    text: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Request:
    """A merge or pull request. commits are those that the export names, newest first or in no order, often not all.

    merged_at is None where no time is known, merge_commits what the merge or the squash made, if known.
    """

    repository: str
    number: int
    title: str
    merged: bool
    merged_at: int | None
    merge_commits: tuple[str, ...]
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """One comment on a line as the export has it, before threads are put together.

    thread is the same for all comments of a thread, order is the forge's number of the comment and grows with time.
    line is 1-based in the version of the file at commit; a removed line has the number of what follows it. line_text is
    that line where the export shows it, else None. resolved is None where the export does not say.
    """

    forge: Forge
    repository: str
    number: int
    thread: str
    order: int
    path: str
    line: int
    side: Side
    commit: str
    line_text: str | None
    author_key: str
    is_bot: bool
    text: str
    created_at: int
    resolved: bool | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether a thread was resolved, where the export says it apart from the comments."""

    thread: str
    resolved: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """A record, or a part of one, that is of no use, and why; the reason never holds text of the record."""

    reason: str


Item = Request | Note | Resolution | Problem


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that gives no thread, and why; place is "file:record", the first record being 1."""

    reason: str
    place: str


@dataclass(frozen=True, slots=True)
class ReviewThread:
    """A discussion about one line of one request, its comments by persons alone and oldest first.

    request_commits and merge_commits are those that the export names, which need not be in the repository any more.
    line_text is the line as the reviewer saw it, None where the export does not show it. merged_at is None where no
    time is known. place names the record.
    """

    forge: Forge
    repository: str
    request_id: int
    title: str
    path: str
    line: int
    side: Side
    commit: str
    line_text: str | None
    comments: tuple[ReviewComment, ...]
    kind: Kind
    resolved: bool | None
    merged: bool
    merged_at: int | None
    merge_commits: tuple[str, ...]
    request_commits: tuple[str, ...]
    place: str
