"""From an export of reviews and a history to the fixes that become rows, newest first."""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from data_pipelines.document import Commit
from data_pipelines.mine.review_fix import Fix, Read, Wanted, by_change, changes_of, find_fix
from data_pipelines.sources.forge.export import read_reviews
from data_pipelines.sources.forge.records import Refused, ReviewThread
from data_pipelines.task_config import ReviewFixSection

# how many times the rows that are wanted are held before the oldest go
NUM_HELD = 4


def fixes_in(
    export: Path,
    commits: Callable[[Collection[str]], Iterable[Commit]],
    *,
    read: Read,
    section: ReviewFixSection,
    meet: Callable[[ReviewThread], None] = lambda _: None,
) -> Iterator[tuple[Fix, ...] | Refused]:
    """What was left out as it is met, then the fixes by commit and file, newest first, at most max_rows_per_source.

    commits gives the history, newest first, and after it those of the commits that it is called with, and what leads
    to them, that are elsewhere in the repository (see branch_commits). meet is shown every thread once. The export is
    read twice, so that neither it nor the history need be in memory. Raises as read_reviews does.
    """
    wanted = Wanted()
    for one in read_reviews(export, min_comment_chars=section.min_comment_chars):
        if isinstance(one, ReviewThread):
            wanted.add(one)
            meet(one)
        else:
            yield one
    changes = changes_of(commits(wanted.heads), wanted)
    held: list[Fix] = []
    for one in read_reviews(export, min_comment_chars=section.min_comment_chars):
        if not isinstance(one, ReviewThread):
            continue
        found = find_fix(one, changes, read=read, section=section)
        if not isinstance(found, Fix):
            yield Refused(f"review thread: {found.reason}", one.place)
            continue
        held.append(found)
        if len(held) > NUM_HELD * 2 * section.max_rows_per_source:
            held, old = _newest(held, NUM_HELD * section.max_rows_per_source)
            yield from _refused(old, section)
    groups = sorted(
        by_change(held), key=lambda group: (-group[0].commit.time, group[0].commit.id, group[0].change.path)
    )
    yield from groups[: section.max_rows_per_source]
    for group in groups[section.max_rows_per_source :]:
        yield from _refused(group, section)


def _newest_first(group: tuple[Fix, ...]) -> tuple[int, str, bytes]:
    return -group[0].commit.time, group[0].commit.id, group[0].change.path


def _newest(fixes: list[Fix], count: int) -> tuple[list[Fix], list[Fix]]:
    ordered = sorted(fixes, key=lambda fix: (-fix.commit.time, fix.commit.id, fix.thread.place))
    return ordered[:count], ordered[count:]


def _refused(fixes: Iterable[Fix], section: ReviewFixSection) -> Iterator[Refused]:
    reason = f"review thread: more than {section.max_rows_per_source} newer fixes were kept"
    return (Refused(reason, fix.thread.place) for fix in fixes)
