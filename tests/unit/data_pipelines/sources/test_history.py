import io

from data_pipelines.sources import history
from data_pipelines.sources.history import parse_log

ID = b"a" * 40
ENTRY = b":100644 100644 " + b"1" * 40 + b" " + b"2" * 40 + b" M"


def parse(*fields):
    return list(parse_log(io.BytesIO(b"".join(field + b"\0" for field in fields))))


def test_a_path_that_looks_like_an_entry_or_an_id_stays_a_path():
    (commit,) = parse(ID, b"5", b"e", b"n", b"message", b"", b"\n" + ENTRY, ENTRY, ENTRY, ID, b"")
    assert [change.path for change in commit.changes] == [ENTRY, ID]


def test_times_outside_reason_are_bounded_and_odd_bytes_replaced():
    first, second = parse(ID, b"-5", b"e", b"n\xff", b"m", b"", ID, b"9" * 30, b"e", b"n", b"m", b"")
    assert (first.time, first.name, second.time) == (0, "n\N{REPLACEMENT CHARACTER}", (1 << 62) - 1)


def test_output_that_breaks_off_ends_quietly():
    assert parse(ID, b"5", b"e") == []
    assert parse() == []
    assert [commit.changes for commit in parse(ID, b"5", b"e", b"n", b"m", b"")] == [()]


def test_a_field_without_an_end_ends_the_log(monkeypatch):
    monkeypatch.setattr(history, "MAX_FIELD_BYTES", 100)
    stream = io.BytesIO(b"\0".join([ID, b"5", b"e", b"n", b"m", b"", ID, b"5", b"x" * 1000]))
    assert len(list(parse_log(stream))) == 1
