"""The log of who asked what: its chain, its files, and what happens when the disk takes nothing."""

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError, RunError
from serving.access import audit
from serving.access.audit import AuditLog
from serving.access.audit_files import AuditEvent, entries_of, event_of, note_key_change, series_in, summary_of
from serving.access.record import RequestRecord
from serving.errors import AuditError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "served" / "audit"


def ask(log: AuditLog, who: str = "ada", *, status: int = 200, is_spared: bool = False, **more: object) -> None:
    record = RequestRecord(id="req_1", at_ms=5, caller=who, route="POST /infill", **more)
    log.note(record, status=status, seconds=0.5, is_spared=is_spared)


def kinds(folder: Path) -> list[str]:
    return [entry.kind for entry in entries_of(series_in(folder)["8000"])]


def events(folder: Path) -> list[AuditEvent]:
    return [event_of(entry) for entry in entries_of(series_in(folder)["8000"])]


@pytest.fixture
def full_disk(monkeypatch):
    """A switch: while it is set, syncing a file fails as on a full disk."""
    state = {"full": False}
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(audit.os, "fsync", fsync)
    return state


def test_a_request_is_one_entry_and_the_server_s_start_and_stop_are(folder):
    log = AuditLog(folder, "8000")
    ask(log, model="shop", answered="shop-1", prompt_tokens=3, completion_tokens=4, outcome="whole")
    log.close()
    assert kinds(folder) == ["started", "request", "stopped"]
    event = events(folder)[1]
    assert (event.who, event.model, event.answered, event.outcome) == ("ada", "shop", "shop-1", "whole")
    assert (event.prompt_tokens, event.completion_tokens, event.status, event.seconds) == (3, 4, 200, 0.5)
    (path,) = series_in(folder)["8000"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_chain_goes_on_after_a_restart_and_over_files(folder, monkeypatch):
    for _ in range(3):
        log = AuditLog(folder, "8000", max_file_bytes=1)
        ask(log)
        log.save()
        log.close()
    assert len(series_in(folder)["8000"]) == 9
    summary = summary_of("8000", series_in(folder)["8000"])
    assert summary.num_entries == 9 and summary.last and summary.last.sequence == 9
    # the oldest were carried away
    for path in series_in(folder)["8000"][:4]:
        path.unlink()
    summary = summary_of("8000", series_in(folder)["8000"])
    assert summary.num_entries == 5 and summary.first and summary.first.sequence == 5


def test_a_new_day_has_a_new_file(folder, monkeypatch):
    log = AuditLog(folder, "8000")
    tomorrow = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    ask(log)
    log.close()
    assert len(series_in(folder)["8000"]) == 2 and kinds(folder) == ["started", "request", "stopped"]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "alter",
    [
        lambda lines: [lines[0], lines[1].replace(b"ada", b"bob"), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0], lines[1], *lines[1:]],
        lambda lines: [lines[0], b"x\n", *lines[2:]],
    ],
    ids=["changed", "taken out", "moved", "put in", "damaged"],
)
def test_what_was_altered_is_found_and_nothing_is_appended(folder, alter):
    log = AuditLog(folder, "8000")
    ask(log)
    ask(log, "eve")
    log.close()
    (path,) = series_in(folder)["8000"]
    path.write_bytes(b"".join(alter(lines_of(path))))
    with pytest.raises(RunError, match=r"8000-0+1\.jsonl:[23]: the record"):
        summary_of("8000", [path])
    with pytest.raises(RunError):
        AuditLog(folder, "8000")


def test_a_file_taken_out_of_the_middle_is_found(folder):
    log = AuditLog(folder, "8000", max_file_bytes=1)
    for _ in range(3):
        ask(log)
        log.save()
    log.close()
    series_in(folder)["8000"][2].unlink()
    with pytest.raises(RunError, match="removed"):
        summary_of("8000", series_in(folder)["8000"])


def test_the_torn_end_of_a_killed_write_is_cut_off(folder, caplog):
    log = AuditLog(folder, "8000")
    log.close()
    (path,) = series_in(folder)["8000"]
    with path.open("ab") as stream:
        stream.write(b'{"sequence": 3, "at"')
    # a reader passes it over
    assert kinds(folder) == ["started", "stopped"]
    AuditLog(folder, "8000").close()
    assert kinds(folder) == ["started", "stopped"] * 2 and "cut off 20 bytes" in caplog.text


def test_two_servers_have_a_file_each_and_one_cannot_take_another_s(folder):
    first, second = AuditLog(folder, "8000"), AuditLog(folder, "8001")
    with pytest.raises(MachineError, match="Another server writes the log 8000"):
        AuditLog(folder, "8000")
    first.close()
    second.close()
    assert sorted(series_in(folder)) == ["8000", "8001"]


def test_a_change_is_on_the_disk_before_it_is_made(folder):
    log = AuditLog(folder, "8000")
    record = RequestRecord(id="req_2", caller="ada", route="POST /v1/adapters/alias")
    asyncio.run(log.admit(record, is_change=True))
    assert kinds(folder) == ["started", "asked"] and events(folder)[1].who == "ada"
    asyncio.run(log.admit(record, is_change=False))
    assert kinds(folder) == ["started", "asked"]
    log.close()


@pytest.mark.parametrize("is_required", [False, True])
def test_a_full_disk_stops_changes_and_answers_only_where_the_log_is_required(folder, full_disk, is_required, caplog):
    log = AuditLog(folder, "8000", is_required=is_required)
    size = series_in(folder)["8000"][0].stat().st_size
    full_disk["full"] = True
    with pytest.raises(AuditError):
        asyncio.run(log.admit(RequestRecord(), is_change=True))
    for _ in range(2):
        ask(log)
        log.save()
    if is_required:
        with pytest.raises(AuditError):
            asyncio.run(log.admit(RequestRecord(), is_change=False))
    else:
        asyncio.run(log.admit(RequestRecord(), is_change=False))
    # what was half written is gone, and it is told once
    assert series_in(folder)["8000"][0].stat().st_size == size and len(caplog.records) == 1
    full_disk["full"] = False
    log.save()
    asyncio.run(log.admit(RequestRecord(), is_change=False))
    assert kinds(folder) == ["started", "asked", "request", "request"] and "written again" in caplog.text
    log.close()


def test_a_disk_that_takes_a_part_and_lets_nothing_be_cut_off_breaks_no_chain(folder, full_disk, monkeypatch):
    log = AuditLog(folder, "8000")
    full_disk["full"] = True

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(audit.os, "ftruncate", refuse)
        for _ in range(3):
            ask(log)
            log.save()
    full_disk["full"] = False
    log.close()
    assert kinds(folder) == ["started", "request", "request", "request", "stopped"]


def test_what_does_not_fit_into_memory_is_counted_as_lost(folder, full_disk, monkeypatch):
    monkeypatch.setattr(audit, "MAX_WAITING_BYTES", 3 * audit.EVENT_BYTES)
    log = AuditLog(folder, "8000")
    full_disk["full"] = True
    for _ in range(7):
        ask(log)
        log.save()
    full_disk["full"] = False
    log.save()
    assert kinds(folder) == ["started", "request", "request", "request", "gap"]
    assert events(folder)[-1].num_left_out == 4
    # nor is a change made whose entry had no place, though the disk takes entries again meanwhile
    full_disk["full"] = True
    for _ in range(4):
        ask(log)
    full_disk["full"] = False
    with pytest.raises(AuditError):
        asyncio.run(log.admit(RequestRecord(), is_change=True))
    ask(log)
    log.close()
    assert kinds(folder)[-2:] == ["request", "stopped"]


def test_a_stranger_cannot_fill_the_disk(folder):
    log = AuditLog(folder, "8000")
    for _ in range(500):
        ask(log, "", status=401, is_spared=True)
    ask(log, "ada", status=403, is_spared=True)
    log.close()
    names = [event.who for event in events(folder)]
    assert 60 <= names.count("") - 2 <= 62 and names.count("ada") == 1
    assert sum(event.num_left_out for event in events(folder)) == 502 - names.count("")


def test_what_a_client_wrote_neither_fills_nor_breaks_the_log(folder):
    log = AuditLog(folder, "8000")
    ask(log, model="\ud800" + "x" * 10_000, reason="\n{}\n", prompts=(repr("\ud800"),))
    log.close()
    event = events(folder)[1]
    assert event.model.startswith("\\ud800x") and len(event.model) < 210 and event.reason == "\n{}\n"


def test_a_server_does_not_start_without_its_log(folder, full_disk):
    full_disk["full"] = True
    with pytest.raises(MachineError, match="cannot be written"):
        AuditLog(folder, "8000")
    full_disk["full"] = False
    AuditLog(folder, "8000").close()


def test_changes_of_keys_are_a_chain_of_their_own(folder):
    note_key_change(folder, "key created", key_name="ada", key_id="0123")
    note_key_change(folder, "key revoked", key_name="ada", key_id="0123")
    first, second = (event_of(entry) for entry in entries_of(series_in(folder)["keys"]))
    assert first.who.startswith("user:") and (second.action, second.key_name) == ("key revoked", "ada")
    path = series_in(folder)["keys"][0]
    path.write_bytes(path.read_bytes().replace(b"created", b"cleared"))
    with pytest.raises(RunError):
        note_key_change(folder, "key created", key_name="bob", key_id="4567")


def test_nothing_of_an_entry_is_spelt_out_that_is_not_so(folder):
    log = AuditLog(folder, "8000")
    ask(log, "", status=401, reason="no key")
    log.close()
    (path,) = series_in(folder)["8000"]
    body = json.loads(lines_of(path)[1])["body"]
    assert set(body) == {"at_ms", "action", "request_id", "status", "outcome", "reason", "seconds"}


WRITER = """
import sys
from pathlib import Path
from serving.access.audit import AuditLog
from serving.access.record import RequestRecord
log = AuditLog(Path(sys.argv[1]), "8000", max_file_bytes=20_000)
print("writes", flush=True)
while True:
    for number in range(50):
        log.note(RequestRecord(caller="ada", route="POST /infill", id=f"req_{number}"), status=200, seconds=0.1)
    log.save()
"""


def test_a_killed_server_leaves_a_chain_that_holds_and_goes_on(folder):
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdout.readline() == b"writes\n"
            before = len(series_in(folder)["8000"])
            deadline = time.monotonic() + 20
            while len(series_in(folder)["8000"]) < before + 2 and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
        assert len(series_in(folder)["8000"]) >= before + 2
        AuditLog(folder, "8000").close()
    summary = summary_of("8000", series_in(folder)["8000"])
    assert summary.last and summary.num_entries == summary.last.sequence > 150
