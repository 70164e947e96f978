"""Records of GitLab: merge requests of a project export with their notes, and answers of its REST API."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, JsonValue

from data_pipelines.sources.forge.records import Forge, Item, Note, Request, Side
from data_pipelines.sources.forge.wire import Line, Number, Seconds, Unusable, Wire, guarded, is_bot

# "8ec9a00bfd09b3190ac6b22251dbb1aa95a0579d_28_29": path as SHA-1, line before, line after
LINE_CODE = re.compile(r"^[0-9a-f]{40}_(\d{1,9})_(\d{1,9})$")
ON_LINE = ("text", None)


def _position(value: object) -> object:
    # an export writes the position as an object, older ones as the JSON text of one
    return _Position.model_validate_json(value) if isinstance(value, str) else value


class _Position(Wire):
    head_sha: str | None = None
    old_path: str | None = None
    new_path: str | None = None
    old_line: Line | None = None
    new_line: Line | None = None
    position_type: str | None = None


Position = Annotated[_Position | None, BeforeValidator(_position)]


class _Author(Wire):
    username: str = ""
    name: str = ""


class _Note(Wire):
    """A note of an export ("note") or of the API ("body")."""

    id: Number
    note: str | None = None
    body: str | None = None
    system: bool = False
    author: _Author = _Author()
    author_id: int | None = None
    created_at: Seconds
    position: Position = None
    original_position: Position = None
    line_code: str | None = None
    discussion_id: str | None = None
    resolved_at: Seconds | None = None
    resolvable: bool | None = None
    resolved: bool | None = None
    project_id: int | None = None
    noteable_type: str | None = None
    noteable_iid: Number | None = None


class _DiffCommit(Wire):
    sha: str = ""


class _Diff(Wire):
    merge_request_diff_commits: tuple[_DiffCommit, ...] = ()


class _Metrics(Wire):
    merged_at: Seconds | None = None


class _Request(Wire):
    """tree/project/merge_requests.ndjson, "merge_requests" of an older project.json, or GET .../merge_requests."""

    iid: Number
    title: str = ""
    state: str = ""
    project_id: int | None = None
    target_project_id: int | None = None
    merged_at: Seconds | None = None
    merge_commit_sha: str | None = None
    squash_commit_sha: str | None = None
    sha: str | None = None
    metrics: _Metrics | None = None
    merge_request_diff: _Diff | None = None


def read(value: dict[str, JsonValue]) -> Iterator[Item] | None:
    """What one record says, in the terms of all forges; None when it is no record of GitLab's that is known."""
    if "individual_note" in value and "notes" in value:
        return _discussion(value)
    if "iid" in value and "target_branch" in value:
        return _request_with_notes(value)
    if "noteable_type" in value and ("body" in value or "note" in value):
        return guarded("note", lambda: _note(value))
    return None


def _discussion(value: dict[str, JsonValue]) -> Iterator[Item]:
    notes = value["notes"]
    for note in notes if isinstance(notes, list) else []:
        yield from guarded("note", partial(_note, note, thread=str(value.get("id") or "")))


def _request_with_notes(value: dict[str, JsonValue]) -> Iterator[Item]:
    notes = value.get("notes")
    for item in guarded("merge request", lambda: _request(_Request.model_validate(value))):
        yield item
        if isinstance(item, Request):
            for note in notes if isinstance(notes, list) else []:
                yield from guarded("note", partial(_note, note, request=item))


def _note(value: JsonValue, *, thread: str = "", request: Request | None = None) -> Note:
    note = _Note.model_validate(value)
    if note.system:
        raise Unusable("a message of the forge itself")
    if note.noteable_type not in (None, "MergeRequest"):
        raise Unusable("not on a merge request")
    number = request.number if request else note.noteable_iid
    if number is None:
        raise Unusable("names no merge request")
    path, line, side, commit = _place(note)
    repository = request.repository if request else str(note.project_id or "")
    return Note(
        Forge.GITLAB,
        repository,
        number,
        thread=f"{repository}!{number} {thread or note.discussion_id or note.line_code or f'{path}:{line}'}",
        order=note.id,
        path=path,
        line=line,
        side=side,
        commit=commit,
        line_text=None,
        author_key=note.author.username or note.author.name or f"person {note.author_id}",
        is_bot=is_bot(note.author.username) or is_bot(note.author.name),
        text=note.note or note.body or "",
        created_at=note.created_at,
        resolved=_resolved(note),
    )


def _request(request: _Request) -> Request:
    merged_at = request.merged_at or (request.metrics.merged_at if request.metrics else None)
    diff = request.merge_request_diff
    commits = tuple(commit.sha for commit in diff.merge_request_diff_commits if commit.sha) if diff else ()
    return Request(
        str(request.target_project_id or request.project_id or ""),
        request.iid,
        request.title,
        merged=request.state == "merged",
        merged_at=merged_at,
        merge_commits=tuple(sha for sha in (request.merge_commit_sha, request.squash_commit_sha) if sha),
        commits=commits or ((request.sha,) if request.sha else ()),
    )


def _place(note: _Note) -> tuple[str, int, Side, str]:
    position = note.original_position or note.position
    if position is None or position.position_type not in ON_LINE:
        raise Unusable("on the request, not on a line")
    path, code = position.new_path or position.old_path, LINE_CODE.match(note.line_code or "")
    commit = position.head_sha or ""
    if path and position.new_line is not None:
        return path, position.new_line, Side.NEW, commit
    line = int(code[2]) if code else position.old_line
    if not path or not line:
        raise Unusable("without a line")
    return path, line, Side.OLD, commit


def _resolved(note: _Note) -> bool | None:
    if note.resolved is not None:
        return note.resolved if note.resolvable is not False else None
    return True if note.resolved_at is not None else None
