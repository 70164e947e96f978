"""Exports of reviews as GitHub and GitLab write them, over a real repository; field names are those of their APIs."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = "corp/shop"
API, WEB = f"https://api.github.com/repos/{REPOSITORY}", f"https://github.com/{REPOSITORY}"
PROJECT = 5
SHA1_OF_PATH = "8ec9a00bfd09b3190ac6b22251dbb1aa95a0579d"


@dataclass
class Said:
    """One comment."""

    login: str
    text: str
    at: int
    is_bot: bool = False


@dataclass
class Thread:
    """A thread on a line (in the file after the change) of a commit; hunk ends at that line."""

    path: str
    line: int
    commit: str
    hunk: str
    said: list[Said]
    resolved: bool = False


@dataclass
class Request:
    """A request with its threads; merged_at None for one that is open or was closed."""

    number: int
    title: str
    commits: list[str]
    merge_commit: str | None
    merged_at: int | None
    threads: list[Thread] = field(default_factory=list)


def stamp(seconds: int) -> str:
    """2023-11-14T22:13:20Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hunk_to(diff: str, new_line: int) -> str:
    """The hunk of a unified diff of one file, cut after a line of the file after, as GitHub stores it."""
    lines = diff.split("\n")
    start = next(place for place, line in enumerate(lines) if line.startswith("@@"))
    number = int(lines[start].split("+")[1].split(",")[0].split(" ")[0]) - 1
    for place in range(start + 1, len(lines)):
        number += not lines[place].startswith("-")
        if number == new_line:
            return "\n".join(lines[start : place + 1])
    raise AssertionError(f"line {new_line} is not in the hunk")


def person(said: Said) -> dict[str, Any]:
    return {"login": said.login, "id": 1, "type": "Bot" if said.is_bot else "User", "site_admin": False}


def github_pulls(requests: list[Request]) -> list[dict[str, Any]]:
    return [
        {
            "url": f"{API}/pulls/{request.number}",
            "id": 1000 + request.number,
            "number": request.number,
            "state": "closed" if request.merged_at else "open",
            "title": request.title,
            "user": {"login": "author", "type": "User"},
            "body": None,
            "created_at": stamp(1),
            "merged_at": stamp(request.merged_at) if request.merged_at else None,
            "merge_commit_sha": request.merge_commit,
            "head": {"label": "corp:feature", "ref": "feature", "sha": request.commits[-1]},
            "base": {"label": "corp:main", "ref": "main", "sha": "0" * 40},
            "draft": False,
        }
        for request in requests
    ]


def github_comments(requests: list[Request]) -> list[dict[str, Any]]:
    found = []
    for request in requests:
        for place, thread in enumerate(request.threads):
            root = request.number * 1000 + place * 100
            for reply, said in enumerate(thread.said):
                found.append(
                    {
                        "url": f"{API}/pulls/comments/{root + reply}",
                        "pull_request_review_id": 7,
                        "id": root + reply,
                        "diff_hunk": thread.hunk,
                        "path": thread.path,
                        "commit_id": request.commits[-1],
                        "original_commit_id": thread.commit,
                        "user": person(said),
                        "body": said.text,
                        "created_at": stamp(said.at),
                        "updated_at": stamp(said.at),
                        "pull_request_url": f"{API}/pulls/{request.number}",
                        "start_line": None,
                        "original_start_line": None,
                        "line": None,
                        "original_line": thread.line,
                        "side": "RIGHT",
                        "original_position": 4,
                        "position": None,
                        "subject_type": "line",
                        **({"in_reply_to_id": root} if reply else {}),
                    }
                )
    return sorted(found, key=lambda comment: comment["created_at"])


def write_github_api(folder: Path, requests: list[Request]) -> Path:
    """What `gh api --paginate` prints: one array after the other."""
    folder.mkdir()
    comments = github_comments(requests)
    pages = [comments[first : first + 2] for first in range(0, len(comments), 2)]
    (folder / "comments.json").write_text("".join(json.dumps(page) for page in pages))
    (folder / "pulls.json").write_text(json.dumps(github_pulls(requests)))
    review = {"id": 7, "user": {"login": "mira"}, "body": "", "state": "COMMENTED", "submitted_at": stamp(9)}
    reviews = [{**review, "pull_request_url": f"{API}/pulls/{request.number}"} for request in requests]
    (folder / "reviews.jsonl").write_text("".join(json.dumps(one) + "\n" for one in reviews))
    return folder


def write_github_archive(folder: Path, requests: list[Request]) -> Path:
    """A migration archive, unpacked: persons, requests and threads are URLs."""
    folder.mkdir()
    pulls, comments, threads = [], [], []
    for request in requests:
        url = f"{WEB}/pull/{request.number}"
        pulls.append(
            {
                "type": "pull_request",
                "url": url,
                "user": "https://github.com/author",
                "repository": WEB,
                "title": request.title,
                "body": "",
                "base": {"ref": "main", "sha": "0" * 40, "user": "https://github.com/corp", "repo": WEB},
                "head": {"ref": "feature", "sha": request.commits[-1], "user": "https://github.com/corp", "repo": WEB},
                "merged_at": stamp(request.merged_at) if request.merged_at else None,
                "created_at": stamp(1),
            }
        )
        for place, thread in enumerate(request.threads):
            thread_url = f"{url}/files#pullrequestreviewthread-{place}"
            root = f"{url}/files#r{request.number * 1000 + place * 100}"
            resolved_at = stamp(thread.said[-1].at) if thread.resolved else None
            threads.append({"type": "pull_request_review_thread", "url": thread_url, "resolved_at": resolved_at})
            for reply, said in enumerate(thread.said):
                comments.append(
                    {
                        "type": "pull_request_review_comment",
                        "url": f"{url}/files#r{request.number * 1000 + place * 100 + reply}",
                        "pull_request": url,
                        "pull_request_review": f"{url}/files#pullrequestreview-7",
                        "pull_request_review_thread": thread_url,
                        "user": f"https://github.com/{'apps/' if said.is_bot else ''}{said.login}",
                        "body": said.text,
                        "formatter": "markdown",
                        "diff_hunk": thread.hunk,
                        "path": thread.path,
                        "position": None,
                        "original_position": 4,
                        "commit_id": request.commits[-1],
                        "original_commit_id": thread.commit,
                        "state": 1,
                        "in_reply_to": root if reply else None,
                        "reactions": [],
                        "created_at": stamp(said.at),
                    }
                )
    for name, rows in (("pull_requests", pulls), ("pull_request_review_comments", comments)):
        (folder / f"{name}_000001.json").write_text(json.dumps(rows, indent=2))
    (folder / "pull_request_review_threads_000001.json").write_text(json.dumps(threads))
    (folder / "users_000001.json").write_text(json.dumps([{"type": "user", "url": "https://github.com/mira"}]))
    (folder / "schema.json").write_text('{"version": "1.2.0"}')
    return folder


def gitlab_position(thread: Thread) -> dict[str, Any]:
    return {
        "base_sha": "0" * 40,
        "start_sha": "0" * 40,
        "head_sha": thread.commit,
        "old_path": thread.path,
        "new_path": thread.path,
        "position_type": "text",
        "old_line": None,
        "new_line": thread.line,
        "line_range": None,
    }


def gitlab_notes(request: Request) -> list[dict[str, Any]]:
    system = {
        "id": 1,
        "note": "added 3 commits",
        "noteable_type": "MergeRequest",
        "author_id": 26,
        "created_at": stamp(2),
        "system": True,
        "position": None,
        "author": {"name": "User 4"},
    }
    notes = [system]
    for place, thread in enumerate(request.threads):
        for reply, said in enumerate(thread.said):
            notes.append(
                {
                    "id": request.number * 1000 + place * 100 + reply,
                    "note": said.text,
                    "noteable_type": "MergeRequest",
                    "author_id": len(said.login),
                    "created_at": stamp(said.at).replace("Z", ".632Z"),
                    "project_id": PROJECT,
                    "line_code": f"{SHA1_OF_PATH}_{thread.line}_{thread.line}",
                    "commit_id": None,
                    "system": False,
                    "position": gitlab_position(thread),
                    "original_position": gitlab_position(thread),
                    "resolved_at": stamp(said.at + 9) if thread.resolved else None,
                    "discussion_id": f"{place:040d}",
                    "type": "DiffNote",
                    "author": {"name": said.login},
                    "suggestions": [],
                }
            )
    return notes


def gitlab_requests(requests: list[Request]) -> list[dict[str, Any]]:
    return [
        {
            "id": 700 + request.number,
            "iid": request.number,
            "target_branch": "main",
            "source_branch": "feature",
            "target_project_id": PROJECT,
            "author_id": 1,
            "title": request.title,
            "created_at": stamp(1),
            "state": "merged" if request.merged_at else "opened",
            "merge_commit_sha": request.merge_commit,
            "squash_commit_sha": None,
            "notes": gitlab_notes(request),
            "merge_request_diff": {
                "state": "collected",
                "merge_request_diff_commits": [
                    {"relative_order": place, "sha": sha, "message": "m"}
                    for place, sha in enumerate(reversed(request.commits))
                ],
                "merge_request_diff_files": [],
            },
            "metrics": {"merged_at": stamp(request.merged_at) if request.merged_at else None},
        }
        for request in requests
    ]


def write_gitlab_tree(folder: Path, requests: list[Request]) -> Path:
    """A project export, unpacked."""
    target = folder / "tree" / "project"
    target.mkdir(parents=True)
    rows = gitlab_requests(requests)
    (target / "merge_requests.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (target / "labels.ndjson").write_text('{"id":2,"title":"A label"}\n')
    return folder


def write_gitlab_project(folder: Path, requests: list[Request]) -> Path:
    """An export of before GitLab 12.10: everything in one object, positions as JSON text."""
    folder.mkdir()
    rows = gitlab_requests(requests)
    for row in rows:
        for note in row["notes"]:
            note["position"] = json.dumps(note["position"]) if note["position"] else None
            note.pop("original_position", None)
    issues = [{"iid": 1, "title": "An issue", "notes": [{"id": 3}]}]
    document = {"description": "d", "labels": [], "issues": issues, "merge_requests": rows, "visibility_level": 10}
    (folder / "project.json").write_text(json.dumps(document))
    return folder


def write_gitlab_api(folder: Path, requests: list[Request]) -> Path:
    """Answers of GET /projects/5/merge_requests and of .../discussions."""
    folder.mkdir()
    discussions = []
    for request in requests:
        for place, thread in enumerate(request.threads):
            notes = [
                {
                    "id": request.number * 1000 + place * 100 + reply,
                    "type": "DiffNote",
                    "body": said.text,
                    "author": {"id": 3, "username": said.login, "name": said.login.title(), "state": "active"},
                    "created_at": stamp(said.at),
                    "system": False,
                    "noteable_id": 700 + request.number,
                    "noteable_type": "MergeRequest",
                    "project_id": PROJECT,
                    "noteable_iid": request.number,
                    "position": gitlab_position(thread),
                    "resolvable": True,
                    "resolved": thread.resolved,
                    "resolved_by": None,
                }
                for reply, said in enumerate(thread.said)
            ]
            discussions.append({"id": f"{request.number}{place:039d}", "individual_note": False, "notes": notes})
    keys = ("id", "iid", "target_branch", "source_branch", "target_project_id", "title", "state", "merge_commit_sha")
    rows = [
        {**{key: row[key] for key in keys}, "project_id": PROJECT, "merged_at": row["metrics"]["merged_at"],
         "sha": request.commits[-1]}
        for row, request in zip(gitlab_requests(requests), requests, strict=True)
    ]  # fmt: skip
    (folder / "merge_requests.json").write_text(json.dumps(rows))
    (folder / "discussions.json").write_text(json.dumps(discussions))
    return folder


WRITERS = {
    "github-api": write_github_api,
    "github-archive": write_github_archive,
    "gitlab-tree": write_gitlab_tree,
    "gitlab-project": write_gitlab_project,
    "gitlab-api": write_gitlab_api,
}
