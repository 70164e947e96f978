"""Records of GitHub: answers of its REST API (pulls, comments, reviews) and files of its migration archive."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import JsonValue

from data_pipelines.sources.forge.hunk import HunkEnd, end_of_hunk
from data_pipelines.sources.forge.records import Forge, Item, Note, Request, Resolution, Side
from data_pipelines.sources.forge.wire import Line, Number, Seconds, Unusable, Wire, guarded, is_bot

# https://api.github.com/repos/O/R/pulls/7 and https://github.com/O/R/pull/7, on any host
REQUEST_URL = re.compile(r"([^/\s]+/[^/\s]+)/pulls?/(\d{1,12})(?:[/#?].*)?$")
# https://github.com/O/R/pull/4/files#r363017488
COMMENT_URL = re.compile(r"(\d{1,18})$")
# what else lies in an archive
OTHER_TYPES = frozenset(
    ("pull_request_review", "issue", "issue_comment", "issue_event", "commit_comment", "user", "organization", "team")
) | frozenset(("repository", "milestone", "release", "attachment", "protected_branch", "project", "repository_file"))
# comments on a file as a whole, from 2023 on
FILE_SUBJECT = "file"


class _User(Wire):
    login: str
    type: str = "User"


class _Head(Wire):
    sha: str = ""


class _Pull(Wire):
    """GET /repos/{owner}/{repo}/pulls; in the archive number and merge_commit_sha are missing."""

    url: str
    title: str = ""
    merged_at: Seconds | None = None
    merge_commit_sha: str | None = None
    head: _Head = _Head()


class _Comment(Wire):
    """GET /repos/{owner}/{repo}/pulls/{number}/comments."""

    id: Number
    pull_request_url: str
    path: str
    diff_hunk: str = ""
    line: Line | None = None
    original_line: Line | None = None
    side: Literal["LEFT", "RIGHT"] | None = None
    commit_id: str = ""
    original_commit_id: str = ""
    in_reply_to_id: Number | None = None
    subject_type: str | None = None
    user: _User | None = None
    body: str
    created_at: Seconds


class _ArchivedComment(Wire):
    """pull_request_review_comments_000001.json: persons, requests and threads are URLs."""

    url: str
    pull_request: str
    pull_request_review_thread: str | None = None
    path: str
    diff_hunk: str = ""
    commit_id: str = ""
    original_commit_id: str = ""
    in_reply_to: str | None = None
    user: str | None = None
    body: str
    created_at: Seconds


class _ArchivedThread(Wire):
    """pull_request_review_threads_000001.json; resolved_at is null while a thread is open."""

    url: str
    resolved_at: Seconds | None = None


def read(value: dict[str, JsonValue]) -> Iterator[Item] | None:
    """What one record says, in the terms of all forges; None when it is no record of GitHub's that is known.

    Reviews and other known records without a comment on a line give nothing.
    """
    named = value.get("type")
    if named == "pull_request" or ("head" in value and "base" in value and "number" in value):
        return guarded("pull request", lambda: _request(_Pull.model_validate(value)))
    if named == "pull_request_review_comment":
        return guarded("review comment", lambda: _archived_note(_ArchivedComment.model_validate(value)))
    if named == "pull_request_review_thread":
        return guarded("review thread", lambda: _resolution(_ArchivedThread.model_validate(value)))
    if "diff_hunk" in value and "pull_request_url" in value:
        return guarded("review comment", lambda: _note(_Comment.model_validate(value)))
    if named in OTHER_TYPES or ("submitted_at" in value and "pull_request_url" in value):
        return iter(())
    return None


def _resolution(thread: _ArchivedThread) -> Resolution:
    return Resolution(thread.url, thread.resolved_at is not None)


def _request(pull: _Pull) -> Request:
    repository, number = _of_request(pull.url)
    # of an open request this is a trial merge that is in no branch
    merge = pull.merge_commit_sha if pull.merged_at is not None else None
    return Request(
        repository,
        number,
        pull.title,
        merged=pull.merged_at is not None,
        merged_at=pull.merged_at,
        merge_commits=(merge,) if merge else (),
        commits=(pull.head.sha,) if pull.head.sha else (),
    )


def _note(comment: _Comment) -> Note:
    if comment.subject_type == FILE_SUBJECT:
        raise Unusable("on a file, not on a line")
    repository, number = _of_request(comment.pull_request_url)
    end = end_of_hunk(comment.diff_hunk)
    line, side = _place(comment, end)
    return Note(
        Forge.GITHUB,
        repository,
        number,
        thread=f"{repository}#{comment.in_reply_to_id or comment.id}",
        order=comment.id,
        path=comment.path,
        line=line,
        side=side,
        commit=comment.original_commit_id or comment.commit_id,
        line_text=end.text if end else None,
        author_key=comment.user.login if comment.user else "ghost",
        is_bot=comment.user is not None and (comment.user.type == "Bot" or is_bot(comment.user.login)),
        text=comment.body,
        created_at=comment.created_at,
        resolved=None,
    )


def _place(comment: _Comment, end: HunkEnd | None) -> tuple[int, Side]:
    if end is not None:
        return end.new_line, Side.OLD if end.is_removed else Side.NEW
    # line moves with later pushes, and is null once they removed it; original_line is where the comment was written
    line = comment.original_line or comment.line
    if line is None:
        raise Unusable("without a line")
    return line, Side.OLD if comment.side == "LEFT" else Side.NEW


def _archived_note(comment: _ArchivedComment) -> Note:
    repository, number = _of_request(comment.pull_request)
    end = end_of_hunk(comment.diff_hunk)
    if end is None:
        raise Unusable("without a line")
    number_of_comment = COMMENT_URL.search(comment.url)
    if number_of_comment is None:
        raise Unusable("has no number")
    login = comment.user.rstrip("/").rpartition("/")[2] if comment.user else "ghost"
    return Note(
        Forge.GITHUB,
        repository,
        number,
        thread=comment.pull_request_review_thread or comment.in_reply_to or comment.url,
        order=int(number_of_comment[1]),
        path=comment.path,
        line=end.new_line,
        side=Side.OLD if end.is_removed else Side.NEW,
        commit=comment.original_commit_id or comment.commit_id,
        line_text=end.text,
        author_key=login,
        is_bot=is_bot(login) or "/apps/" in (comment.user or ""),
        text=comment.body,
        created_at=comment.created_at,
        resolved=None,
    )


def _of_request(url: str) -> tuple[str, int]:
    found = REQUEST_URL.search(url)
    if found is None:
        raise Unusable("names no pull request")
    return found[1].lower(), int(found[2])
