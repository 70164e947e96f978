from functools import partial
from itertools import chain

import pytest

from data_pipelines.mine import reviews
from data_pipelines.mine.reviews import fixes_in
from data_pipelines.sources.forge.branches import branch_commits
from data_pipelines.sources.forge.records import Refused
from data_pipelines.sources.git import open_repository
from data_pipelines.task_config import ReviewFixSection

PATH = "shop/total.py"


def module(start):
    return (
        f"def total(items):\n    result = {start}\n    for item in items:\n        result += item\n    return result\n"
    )


@pytest.fixture
def project(make_repository, forge_exports):
    """Five merged requests, one after the other, each with a comment on line 2 that its second commit answers."""
    builder = make_repository("shop")
    builder.commit({"readme.md": "# Shop\n"}, "Begin")
    requests = []
    for number in range(1, 6):
        added = builder.commit({PATH: module(f"items[{number}]")}, "Add it")
        hunk = "@@ -0,0 +1,5 @@\n+def total(items):\n" + f"+    result = items[{number}]"
        said = [forge_exports.Said("mira", f"Please start from {number}, not from an item.", builder.now - 80_000)]
        fixed = builder.commit({PATH: module(str(number))}, "Start from a number")
        thread = forge_exports.Thread(PATH, 2, added, hunk, said)
        requests.append(forge_exports.Request(number, "Total", [added, fixed], None, builder.now, [thread]))
    return builder, requests


def found_in(builder, export, **settings):
    with open_repository(builder.path, name="shop") as repository:

        def commits(heads):
            return chain(repository.commits(), branch_commits(builder.path / ".git", heads, commit=repository.commit))

        read = partial(repository.content, max_bytes=10_000)
        return list(fixes_in(export, commits, read=read, section=ReviewFixSection(**settings)))


@pytest.mark.parametrize("name", ["github-api", "gitlab-tree"])
def test_fixes_come_newest_first_and_what_is_over_the_limit_is_counted(name, project, forge_exports, tmp_path):
    builder, requests = project
    export = forge_exports.WRITERS[name](tmp_path / "export", requests)
    groups = [one for one in found_in(builder, export) if not isinstance(one, Refused)]
    assert [group[0].thread.request_id for group in groups] == [5, 4, 3, 2, 1]
    assert [group[0].commit.id for group in groups] == [request.commits[1] for request in reversed(requests)]
    found = found_in(builder, export, max_rows_per_source=2)
    groups = [one for one in found if not isinstance(one, Refused)]
    assert [group[0].thread.request_id for group in groups] == [5, 4]
    reason = "review thread: more than 2 newer fixes were kept"
    assert sum(isinstance(one, Refused) and one.reason == reason for one in found) == 3


def test_no_more_are_held_than_needed_and_the_outcome_is_the_same(project, forge_exports, tmp_path, monkeypatch):
    builder, requests = project
    export = forge_exports.write_github_api(tmp_path / "export", requests)
    whole = found_in(builder, export, max_rows_per_source=1)
    monkeypatch.setattr(reviews, "NUM_HELD", 1)
    assert {str(one) for one in found_in(builder, export, max_rows_per_source=1)} == {str(one) for one in whole}


def test_every_thread_ends_as_a_fix_or_with_a_reason(project, forge_exports, tmp_path):
    builder, requests = project
    requests[0].threads[0].said[0].text = "nit"
    requests[1].commits, requests[1].threads[0].commit = ["e" * 40, "f" * 40], "e" * 40
    found = found_in(builder, forge_exports.write_github_api(tmp_path / "export", requests))
    reasons = {one.reason for one in found if isinstance(one, Refused)}
    assert reasons == {
        "review thread: says less than 15 characters",
        "review thread: no commit of the request is in the repository",
    }
    assert len(found) == 5
