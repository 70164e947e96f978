import json

import pytest

from data_pipelines.sources.forge import stream
from data_pipelines.sources.forge.hunk import end_of_hunk
from data_pipelines.sources.forge.stream import read_records


def values(path, text, **options):
    path.write_text(text, encoding="utf-8")
    return [record.reason or record.value for record in read_records(path, **options)]


@pytest.mark.parametrize("chars", [1, 2, 7, 1 << 16])
@pytest.mark.parametrize(
    "text",
    [
        '[{"a": "é]}"}, {"b": [1, 2]}]',
        '{"a": "é]}"}\n{"b": [1, 2]}\n',
        '[{"a": "é]}"}][{"b": [1, 2]}]',
        '\ufeff [ {"a": "é]}"} ,{"b": [1, 2]}\n]\n\n',
    ],
)
def test_records_are_the_same_however_they_are_written_and_read(text, chars, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "READ_CHARS", chars)
    assert values(tmp_path / "x.json", text) == [{"a": "é]}"}, {"b": [1, 2]}]


def test_numbers_are_read_to_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "READ_CHARS", 1)
    assert values(tmp_path / "x.json", "[123, 456] 789") == [123, 456, 789]


def test_members_of_one_big_object_are_records_under_their_key(tmp_path):
    path = tmp_path / "project.json"
    path.write_text('{"name": "x", "issues": [{"a": 1}], "nested": {"deep": [1]}, "merge_requests": [{"b": 2}, 3]}')
    found = [(record.key, record.value) for record in read_records(path, members=True)]
    assert found == [("issues", {"a": 1}), ("merge_requests", {"b": 2}), ("merge_requests", 3)]


@pytest.mark.parametrize(
    ("text", "kept"), [('[{"a": 1}, {"b": ', 1), ('[{"a": 1} oops]', 1), ("{", 0), ("]", 0), ('{"a" 1}', 0), ("[[", 0)]
)
def test_what_breaks_off_keeps_what_came_before(text, kept, tmp_path):
    found = values(tmp_path / "x.json", text)
    assert found == [{"a": 1}] * kept + [stream.NOT_JSON]


def test_a_broken_line_costs_itself(tmp_path):
    assert values(tmp_path / "x.ndjson", '{"a": 1}\n{"b":\n\n[1, 2]\n') == [{"a": 1}, stream.NOT_JSON, 1, 2]


def test_a_record_that_is_too_large_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "MAX_RECORD_CHARS", 100)
    monkeypatch.setattr(stream, "READ_CHARS", 10)
    big = json.dumps({"a": "x" * 500})
    assert values(tmp_path / "x.ndjson", f'{big}\n{{"b": 1}}\n') == [stream.TOO_LARGE, {"b": 1}]
    assert values(tmp_path / "x.json", f"[1, {big}]") == [1, stream.TOO_LARGE]


def test_nesting_without_end_is_no_json(tmp_path):
    assert values(tmp_path / "x.json", "[" + '{"a":' * 200_000) == [stream.NOT_JSON]


@pytest.mark.parametrize(
    ("hunk", "line", "text", "removed"),
    [
        ("@@ -1,2 +5,3 @@ f\n one\n+two\n+three", 7, "three", False),
        ("@@ -1,2 +5,3 @@\n one\n-gone", 6, "gone", True),
        ("@@ -0,0 +1 @@\n+only\n\\ No newline at end of file", 1, "only", False),
        ("@@ -1 +1 @@\n-a\n+b\r\n", 1, "b", False),
    ],
)
def test_the_end_of_a_hunk_is_where_the_comment_stands(hunk, line, text, removed):
    end = end_of_hunk(hunk)
    assert (end.new_line, end.text, end.is_removed) == (line, text, removed)


@pytest.mark.parametrize("hunk", ["", "@@ -1 +1 @@", "nothing", "@@ -x +y @@\n+a"])
def test_what_is_no_hunk_has_no_end(hunk):
    assert end_of_hunk(hunk) is None
