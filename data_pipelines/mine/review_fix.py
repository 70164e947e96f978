"""Review to fix: a comment on a line, and the later commit that changed this place."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from data_pipelines.document import Change, Commit
from data_pipelines.filters.encoding import decode
from data_pipelines.mine.blocks import Hunk, find_hunks
from data_pipelines.sources.forge.records import ReviewThread, Side
from data_pipelines.task_config import ReviewFixSection

Read = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Fix:
    """The commit that answers a thread, the change of its file, and the line (from 1) in the file before it."""

    thread: ReviewThread
    commit: Commit
    change: Change
    line: int


@dataclass(frozen=True, slots=True)
class NoFix:
    """Why a thread, or the fixes of one file in one commit, give no row."""

    reason: str


@dataclass(slots=True)
class Wanted:
    """What the threads of an export need to know of a history: their paths, and whether their commits are in it.

    heads are the commits of merged requests: those that the history lacks may be found with branch_commits.
    """

    paths: set[bytes] = field(default_factory=set)
    commits: set[str] = field(default_factory=set)
    heads: set[str] = field(default_factory=set)

    def add(self, thread: ReviewThread) -> None:
        """Take in a thread."""
        self.paths.add(thread.path.encode())
        self.commits.update((thread.commit, *thread.request_commits, *thread.merge_commits))
        if thread.merged:
            self.heads.update((thread.commit, *thread.request_commits))


@dataclass(frozen=True, slots=True)
class Changes:
    """The commits that change each path, oldest first, with that change alone; known are those wanted that exist."""

    by_path: dict[bytes, list[Commit]]
    known: frozenset[str]


def changes_of(commits: Iterable[Commit], wanted: Wanted) -> Changes:
    """One pass for all threads over a history, newest first as a repository gives it; that of branches may follow."""
    by_path: dict[bytes, list[Commit]] = {path: [] for path in sorted(wanted.paths)}
    known = set()
    for commit in commits:
        if commit.id in wanted.commits:
            known.add(commit.id)
        for change in commit.changes:
            if change.path in by_path:
                by_path[change.path].append(replace(commit, message="", changes=(change,)))
    for history in by_path.values():
        history.reverse()
        history.sort(key=lambda commit: commit.time)
    return Changes(by_path, frozenset(known))


def find_fix(thread: ReviewThread, changes: Changes, *, read: Read, section: ReviewFixSection) -> Fix | NoFix:
    """The first commit after the comment that changes its file within max_lines_apart of its line.

    Commits of the thread's own request alone count when the export names several of them and they are here; otherwise
    any until the request was merged, and after that one that changes the very line. What the merge or the squash made
    never counts: it holds the whole request. The file before the fix must have the line that was commented, and shows
    where it stands by then. read gives the bytes of a blob, None for one that is missing or too large.
    """
    own = {*thread.request_commits, thread.commit} & changes.known
    if not own and changes.known.isdisjoint(thread.merge_commits):
        return NoFix("no commit of the request is in the repository")
    history = changes.by_path.get(thread.path.encode(), [])
    asked_at = thread.comments[0].created_at
    later = [commit for commit in history if commit.time > asked_at]
    if own and len(thread.request_commits) > 1:
        later = [commit for commit in later if commit.id in own]
    if not later:
        return NoFix("no later commit changes the file")
    unmerged = [commit for commit in later if commit.id not in thread.merge_commits]
    if not unmerged:
        return NoFix("the request was squashed into one commit")
    text = thread.line_text if thread.side is Side.NEW else None
    if text is None:
        if not own:
            return NoFix("the commit that was reviewed is not in the repository")
        text = _reviewed_line(thread, [commit for commit in history if commit.time <= asked_at], read)
    return _nearest(thread, unmerged, text=text, read=read, section=section)


def _reviewed_line(thread: ReviewThread, earlier: Sequence[Commit], read: Read) -> str | None:
    """The line as it stood when the comment was written; None for a removed line, or where it cannot be read."""
    if thread.side is Side.OLD or not earlier:
        return None
    lines = lines_of(earlier[-1].changes[0].after, read) or []
    return lines[thread.line - 1] if thread.line <= len(lines) else None


def _nearest(
    thread: ReviewThread, later: Iterable[Commit], *, text: str | None, read: Read, section: ReviewFixSection
) -> Fix | NoFix:
    line, reason = thread.line, "no later commit changes the place"
    for commit in later:
        change = commit.changes[0]
        if change.status != "M":
            return NoFix("the file was removed or came anew after the comment")
        before, after = lines_of(change.before, read), lines_of(change.after, read)
        if before is None or after is None:
            return NoFix("a version of the file is missing, too large, or no text")
        hunks = find_hunks(before, after)
        found = _find_line(before, text, line, section.max_lines_apart)
        reach = section.max_lines_apart if thread.merged_at is None or commit.time <= thread.merged_at else 0
        if found is None:
            reason = "the commented line is not in the file before the fix"
        elif hunks and min(_distance(hunk, found) for hunk in hunks) <= reach:
            return Fix(thread, commit, change, found)
        line = _moved(found or line, hunks)
    return NoFix(reason)


def lines_of(blob: str, read: Read) -> list[str] | None:
    """The lines of a blob with their ends; None when it cannot be read or is no text."""
    content = read(blob)
    if content is None:
        return None
    text, reason = decode(content)
    return None if reason else split_lines(text)


def split_lines(text: str) -> list[str]:
    """Lines with their ends, as git and the forges count them: a form feed or the like ends none."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _find_line(lines: Sequence[str], text: str | None, near: int, max_apart: int) -> int | None:
    """Where the commented text stands, nearest to a line number (both from 1); near itself where text is unknown."""
    if text is None:
        return near if near <= len(lines) else None
    places = (place + 1 for place, line in enumerate(lines) if line.strip() == text.strip())
    best = min(places, key=lambda place: (abs(place - near), place), default=None)
    return best if best is not None and abs(best - near) <= max_apart else None


def _distance(hunk: Hunk, line: int) -> int:
    return max(hunk.start - (line - 1), line - 1 - max(hunk.start, hunk.end - 1), 0)


def _moved(line: int, hunks: Iterable[Hunk]) -> int:
    """The number of a line after a change."""
    shift = sum((hunk.new_end - hunk.new_start) - (hunk.end - hunk.start) for hunk in hunks if hunk.end < line)
    return max(1, line + shift)


def by_change(fixes: Iterable[Fix]) -> Iterator[tuple[Fix, ...]]:
    """Fixes that one commit made in one file belong into one row, because its answer is all that changed there."""
    groups: dict[tuple[str, bytes], list[Fix]] = {}
    for fix in fixes:
        groups.setdefault((fix.commit.id, fix.change.path), []).append(fix)
    for group in groups.values():
        yield tuple(sorted(group, key=lambda fix: (fix.line, fix.thread.request_id, fix.thread.comments[0].created_at)))
