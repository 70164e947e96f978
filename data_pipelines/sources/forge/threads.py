"""Which threads are worth anything: opened by a person, about something, and followed by a merge or a resolution."""

import re

from data_pipelines.sources.forge.records import Kind, Note, Refused, ReviewComment, ReviewThread
from data_pipelines.sources.forge.shelf import Gathered

SUGGESTION = re.compile(r"^[ \t>]*```[ \t]*suggestion\b", re.MULTILINE)
FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# "LGTM", "nit", "+1", "done": an answer, and no request for a change
SAYS_NOTHING = re.compile(
    r"(?i)^\W*(?:lgtm|looks good(?: to me)?|nice(?: one)?|great|thanks?(?: you)?|thx|ty|done|fixed|same(?: here)?|ditto"
    r"|nit|nitpick|ok(?:ay)?|yes|no|why|wdyt|ack|agreed?|good (?:catch|point)|\+1|resolved?|see above|as above)\W*$"
)


def thread_of(gathered: Gathered, *, min_comment_chars: int) -> ReviewThread | Refused:
    """The thread of comments that belong together, or why it is left out."""
    root, place = gathered.notes[0]
    request = gathered.request
    resolved = gathered.resolved if gathered.resolved is not None else _resolved(gathered)
    merged = request is not None and request.merged
    reason = _reason(root, merged=merged, resolved=resolved, min_comment_chars=min_comment_chars)
    if reason:
        return Refused(reason, place)
    persons = [note for note, _ in gathered.notes if not note.is_bot and note.text.strip()]
    return ReviewThread(
        forge=root.forge,
        repository=root.repository,
        request_id=root.number,
        title=request.title if request else "",
        path=root.path,
        line=root.line,
        side=root.side,
        commit=root.commit,
        line_text=root.line_text,
        comments=tuple(ReviewComment(note.author_key, note.text.strip(), note.created_at) for note in persons),
        kind=Kind.SUGGESTION if SUGGESTION.search(root.text) else Kind.COMMENT,
        resolved=resolved,
        merged=merged,
        merged_at=request.merged_at if request else None,
        merge_commits=request.merge_commits if request else (),
        request_commits=request.commits if request else (),
        place=place,
    )


def _resolved(gathered: Gathered) -> bool | None:
    known = [note.resolved for note, _ in gathered.notes if note.resolved is not None]
    return any(known) if known else None


def _reason(root: Note, *, merged: bool, resolved: bool | None, min_comment_chars: int) -> str:
    words = QUOTED.sub("", FENCED.sub("", root.text)).strip()
    is_suggestion = SUGGESTION.search(root.text) is not None
    checks = (
        (root.is_bot, "written by a bot"),
        (not merged and not resolved, "neither merged nor resolved"),
        (not is_suggestion and len(words) < min_comment_chars, f"says less than {min_comment_chars} characters"),
        (not is_suggestion and SAYS_NOTHING.match(words) is not None, "asks for no change"),
    )
    return next((f"review thread: {reason}" for applies, reason in checks if applies), "")
