"""Tokens of the day outlive a restart, are shared by the servers of a home, and end with the day."""

import stat
import time
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError
from finetune.contracts.io import sole_writer
from serving.access.usage import DAY_SECONDS, USAGE_NAME, DayTokens, read_usage, seconds_left
from serving.errors import UsageFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "served" / USAGE_NAME


@pytest.fixture
def clock(monkeypatch):
    """Seconds since 1970 that can be set: the 100th second of a day."""
    now = [20_000 * DAY_SECONDS + 100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_what_was_saved_is_there_after_a_restart(path, clock):
    tokens = DayTokens(path)
    tokens.add("ada", 5)
    tokens.add("ada", 7)
    assert tokens.used("ada") == 12 and DayTokens(path).used("ada") == 0
    tokens.save()
    assert tokens.used("ada") == DayTokens(path).used("ada") == 12 and tokens.used("bob") == 0
    assert read_usage(path.parent) == {"ada": 12} and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_servers_of_a_home_share_the_count(path, clock):
    first, second = DayTokens(path), DayTokens(path)
    first.add("ada", 5)
    second.add("ada", 7)
    first.save()
    second.save()
    assert second.used("ada") == 12 and first.used("ada") == 5
    first.save()
    assert first.used("ada") == 12


def test_a_new_day_begins_at_nothing(path, clock):
    tokens = DayTokens(path)
    tokens.add("ada", 5)
    tokens.save()
    assert seconds_left() == DAY_SECONDS - 100
    clock[0] += DAY_SECONDS
    assert tokens.used("ada") == DayTokens(path).used("ada") == 0 and read_usage(path.parent) == {}
    tokens.add("ada", 3)
    tokens.save()
    assert read_usage(path.parent) == {"ada": 3}


def test_what_cannot_be_written_now_is_written_later(path, clock, caplog):
    tokens = DayTokens(path)
    tokens.add("ada", 5)
    path.parent.mkdir()
    with sole_writer(path.with_suffix(".lock"), MachineError("held", "")):
        tokens.save()
        tokens.save()
    assert not path.exists() and tokens.used("ada") == 5 and len(caplog.records) == 1
    tokens.save()
    assert read_usage(path.parent) == {"ada": 5} and tokens.used("ada") == 5


def test_damage_is_told_at_the_start_and_counted_on_in_memory_later(path, clock, caplog):
    tokens = DayTokens(path)
    path.parent.mkdir()
    path.write_text('{"day": 1, "tok')
    with pytest.raises(UsageFileError, match="usage.json"):
        DayTokens(path)
    tokens.add("ada", 5)
    tokens.save()
    assert tokens.used("ada") == 5 and "in memory alone" in caplog.text
    path.unlink()
    tokens.save()
    assert read_usage(path.parent) == {"ada": 5}


def test_without_a_home_it_is_in_memory(clock):
    tokens = DayTokens(None)
    tokens.add("ada", 5)
    tokens.save()
    assert tokens.used("ada") == 5
