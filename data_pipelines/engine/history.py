"""What the history tells: which commit gave each file its content, and which commits may become edit rows."""

from collections import Counter
from dataclasses import dataclass, field

from data_pipelines.document import Commit, TreeEntry
from data_pipelines.mine.message import edit_reason
from data_pipelines.mine.ranking import MAX_FILES_PER_COMMIT
from data_pipelines.redact.people import People
from data_pipelines.sources.git import Repository
from data_pipelines.task_config import CommitEditSection

# of so many commits it is noted what was changed together: what was years ago says little of today
MAX_TOUCHED = 20_000


@dataclass
class History:
    """num_commits counts what was read, merges left out; last maps a path to the newest commit that set its content.

    touched holds the paths at the head that a commit of several but not many files changed, for the newest commits.
    rejected holds ids of commits, each with the reason. authors counts commits by the author's name, num_changes
    commits by the path at the head that they touched.
    """

    num_commits: int = 0
    last: dict[bytes, Commit] = field(default_factory=dict)
    candidates: list[Commit] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    touched: list[tuple[str, ...]] = field(default_factory=list)
    authors: Counter[str] = field(default_factory=Counter)
    num_changes: Counter[bytes] = field(default_factory=Counter)
    head: Commit | None = None


def read_history(
    repository: Repository,
    entries: list[TreeEntry],
    *,
    section: CommitEditSection,
    languages: tuple[str, ...],
    people: People,
) -> History:
    """Walk the commits once, newest first; candidates are those that look like edits by message and file list.

    Who wrote the commits is added to people.
    """
    blobs = {entry.path: entry.blob for entry in entries}
    history = History()
    for commit in repository.commits():
        history.num_commits += 1
        people.add(commit)
        history.authors[commit.name] += 1
        history.num_changes.update(change.path for change in commit.changes if change.path in blobs)
        history.head = history.head or _without_changes(commit)
        if 1 < len(commit.changes) <= MAX_FILES_PER_COMMIT and len(history.touched) < MAX_TOUCHED:
            paths = [change.path.decode("utf-8", "replace") for change in commit.changes if change.path in blobs]
            history.touched.append(tuple(paths))
        light = None
        for change in commit.changes:
            if blobs.get(change.path) == change.after and change.path not in history.last:
                light = light or _without_changes(commit)
                history.last[change.path] = light
        if section.enabled:
            reason = edit_reason(commit, section=section, languages=languages)
            if reason:
                history.rejected.append((commit.id, reason))
            else:
                history.candidates.append(commit)
    return history


def _without_changes(commit: Commit) -> Commit:
    return Commit(commit.id, commit.time, commit.email, commit.name, "", ())
