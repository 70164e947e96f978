"""What the history tells: which commit gave each file its content, and which commits may become edit rows."""

from dataclasses import dataclass, field

from data_pipelines.config import CommitEditSection
from data_pipelines.document import Commit, TreeEntry
from data_pipelines.mine.message import edit_reason
from data_pipelines.redact.people import People
from data_pipelines.sources.git import Repository


@dataclass
class History:
    """num_commits counts what was read, merges left out; last maps a path to the newest commit that set its content."""

    num_commits: int = 0
    last: dict[bytes, Commit] = field(default_factory=dict)
    candidates: list[Commit] = field(default_factory=list)
    rejected: list[tuple[Commit, str]] = field(default_factory=list)
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
        history.head = history.head or _without_changes(commit)
        light = None
        for change in commit.changes:
            if blobs.get(change.path) == change.after and change.path not in history.last:
                light = light or _without_changes(commit)
                history.last[change.path] = light
        if section.enabled:
            reason = edit_reason(commit, section=section, languages=languages)
            if reason:
                history.rejected.append((_without_changes(commit), reason))
            else:
                history.candidates.append(commit)
    return history


def _without_changes(commit: Commit) -> Commit:
    return Commit(commit.id, commit.time, commit.email, commit.name, "", ())
