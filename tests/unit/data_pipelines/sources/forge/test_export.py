import json
from collections import Counter

import pytest

from data_pipelines.sources.forge import shelf
from data_pipelines.sources.forge.export import read_reviews
from data_pipelines.sources.forge.records import Forge, Kind, Refused, ReviewThread, Side
from finetune.contracts.errors import InputError, MachineError

WHOLE = "? is a lone half of a character"
FORMATS = ("github-api", "github-archive", "gitlab-tree", "gitlab-project", "gitlab-api")


def read(path, chars=15):
    found = list(read_reviews(path, min_comment_chars=chars))
    threads = [one for one in found if isinstance(one, ReviewThread)]
    return threads, Counter(one.reason for one in found if isinstance(one, Refused)), found


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_thread_and_its_comments_in_order(name, forge_exports, requests, tmp_path):
    threads, reasons, _ = read(forge_exports.WRITERS[name](tmp_path / "export", requests))
    (thread,) = threads
    assert (thread.path, thread.line, thread.side) == ("shop/cart.py", 3, Side.NEW)
    assert (thread.request_id, thread.title, thread.commit) == (7, "Add totals", "a" * 40)
    assert [comment.created_at for comment in thread.comments] == [1000, 1010, 1020]
    assert [comment.author_key for comment in thread.comments] == ["mira", "author", "mira"]
    assert thread.comments[0].text.startswith("This must not fail")
    assert thread.merged and thread.merged_at == 2000 and "b" * 40 in thread.request_commits
    assert thread.forge is (Forge.GITHUB if "github" in name else Forge.GITLAB)
    assert thread.line_text == ("    return result" if "github" in name else None)
    assert reasons["review thread: written by a bot"] == 1
    assert reasons["review thread: says less than 15 characters"] == 1
    assert reasons["review thread: neither merged nor resolved"] == 1


@pytest.mark.parametrize("name", FORMATS)
def test_equal_exports_give_equal_threads(name, forge_exports, requests, tmp_path):
    one = read(forge_exports.WRITERS[name](tmp_path / "one", requests))
    assert one == read(forge_exports.WRITERS[name](tmp_path / "two", requests))


@pytest.mark.parametrize("name", ("github-archive", "gitlab-tree", "gitlab-api"))
def test_a_resolved_thread_of_an_open_request_counts(name, forge_exports, requests, tmp_path):
    requests[1].threads[0].resolved = True
    threads, _, _ = read(forge_exports.WRITERS[name](tmp_path / "export", requests))
    assert [(thread.request_id, thread.resolved, thread.merged) for thread in threads][1] == (8, True, False)


def test_a_suggested_change_needs_no_words_and_is_a_kind_of_its_own(forge_exports, requests, tmp_path):
    text = "```suggestion\n    return sum(items)\n```"
    requests[0].threads[0].said = [forge_exports.Said("mira", text, 1000)]
    threads, _, _ = read(forge_exports.write_github_api(tmp_path / "export", requests))
    assert [(thread.kind, thread.comments[0].text) for thread in threads] == [(Kind.SUGGESTION, text)]


def test_code_and_quotes_are_no_words(forge_exports, requests, tmp_path):
    text = "> a long quote of what was said before\n\nnit:\n```python\nreturn sum(items) if items else 0\n```"
    requests[0].threads[0].said = [forge_exports.Said("mira", text, 1000)]
    threads, reasons, _ = read(forge_exports.write_github_api(tmp_path / "export", requests), chars=3)
    assert threads == []
    assert reasons["review thread: asks for no change"] == 2


def test_what_is_written_by_a_bot_leaves_the_thread_of_a_person(forge_exports, requests, tmp_path):
    robot = forge_exports.Said("ci-bot", "Build 7 passed.", 1005, is_bot=True)
    requests[0].threads[0].said.insert(1, robot)
    threads, _, _ = read(forge_exports.write_github_api(tmp_path / "export", requests))
    assert [comment.author_key for comment in threads[0].comments] == ["mira", "author", "mira"]


def test_broken_records_cost_themselves_alone_and_are_named(forge_exports, requests, tmp_path):
    folder = forge_exports.write_github_api(tmp_path / "export", requests)
    comment = forge_exports.github_comments(requests)[0]
    broken = [
        {**comment, "id": "many"},
        {**comment, "body": None},
        {**comment, "created_at": "yesterday"},
        {**comment, "created_at": "0001-01-01T00:00:00+14:00"},
        {**comment, "id": 1 << 63},
        {**comment, "pull_request_url": "https://nowhere"},
        {**comment, "diff_hunk": "", "original_line": None, "line": None},
        {**comment, "subject_type": "file"},
        {"hello": 1},
        17,
        {**comment, "id": 99, "path": "half.py", "body": "\ud800 is a lone half of a character"},
    ]
    lines = [json.dumps(one) for one in broken] + ['{"id": 1, "diff_hunk": ', "[" * 100_000, "", "null"]
    (folder / "broken.ndjson").write_text("\n".join(lines))
    threads, reasons, found = read(folder)
    assert [thread.comments[0].text for thread in threads] == [requests[0].threads[0].said[0].text, WHOLE]
    assert reasons["review comment: id cannot be read"] == 2
    assert reasons["review comment: body is missing or of another type"] == 1
    assert reasons["review comment: created_at cannot be read"] == 2
    assert reasons["review comment: names no pull request"] == 1
    assert reasons["review comment: without a line"] == 1
    assert reasons["review comment: on a file, not on a line"] == 1
    assert reasons["of no kind that is read here"] == 3
    assert reasons["the record is no JSON"] == 2
    places = {one.reason: one.place for one in found if isinstance(one, Refused)}
    assert places["review comment: created_at cannot be read"] == "broken.ndjson:4"


def test_a_broken_note_does_not_take_the_others_with_it(forge_exports, requests, tmp_path):
    folder = forge_exports.write_gitlab_tree(tmp_path / "export", requests)
    file = folder / "tree" / "project" / "merge_requests.ndjson"
    row = forge_exports.gitlab_requests(requests)[0]
    row["notes"][1:1] = [5, {"id": 4}, {**row["notes"][1], "id": 5, "position": "{"}, {**row["notes"][1], "id": 6,
                         "original_position": None, "position": None}]  # fmt: skip
    file.write_text(json.dumps(row) + "\n")
    threads, reasons, _ = read(folder)
    assert len(threads) == 1
    assert reasons["note: on the request, not on a line"] == 1
    assert reasons["note: a message of the forge itself"] == 1
    assert sum(count for reason, count in reasons.items() if reason.startswith("note: ")) == 5


def test_pages_that_overlap_give_each_comment_once(forge_exports, requests, tmp_path):
    folder = forge_exports.write_github_api(tmp_path / "export", requests)
    (folder / "again.json").write_text((folder / "comments.json").read_text())
    threads, _, _ = read(folder)
    assert [len(thread.comments) for thread in threads] == [3]


def test_repositories_links_and_other_files_are_passed_over(forge_exports, requests, tmp_path):
    folder = forge_exports.write_github_api(tmp_path / "export", requests)
    (folder / "repositories").mkdir()
    (folder / "repositories" / "x.json").write_text("{")
    (folder / "loop").symlink_to(folder)
    (folder / "secret.json").symlink_to("/etc/passwd")
    (folder / "notes.txt").write_text("{")
    _, reasons, _ = read(folder)
    assert "the record is no JSON" not in reasons


def test_wrong_paths_and_foreign_files_are_errors_with_a_hint(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "export.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "other.json").write_text('[{"a": 1}]')
    for name, words in {
        "nowhere": "does not exist",
        "empty": "holds no merge requests",
        "export.tar.gz": "is no JSON file",
        "other.json": "holds no merge requests",
    }.items():
        with pytest.raises(InputError, match=words):
            read(tmp_path / name)


def test_a_full_disk_is_named(forge_exports, requests, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "TABLES", f"pragma max_page_count = 6; {shelf.TABLES}")
    requests[0].threads[0].said[0].text = "long " * 20_000
    with pytest.raises(MachineError, match="cannot be put in order on disk: database or disk is full"):
        read(forge_exports.write_github_api(tmp_path / "export", requests))
