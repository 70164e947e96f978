"""The file of keys: what it holds, and that a running server never opens because of what becomes of it."""

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.io import sole_writer
from serving.access.audit_files import AUDIT_NAME, series_in
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.scopes import OPERATOR, Caller, Limits, Scope
from serving.errors import KeyFileError, KeyRefusedError


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile.within(tmp_path / "served")


def create(file: KeyFile, name: str = "ada", *, scopes=(Scope.INFER,), adapters=("shop*",), **more: int) -> str:
    return file.create(name, scopes=scopes, adapters=adapters, **more)[1]


def bearer(key: str) -> list[str]:
    return [f"Bearer {key}"]


def is_refused(keyring: Keyring, *authorization: str) -> bool:
    try:
        keyring.caller(authorization)
    except KeyRefusedError:
        return True
    return False


def test_the_file_is_private_and_holds_no_key(file):
    key = create(file)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert key.rpartition("_")[2] not in file.path.read_text() and key.startswith("ftk_")
    expected = Caller("ada", frozenset({Scope.INFER}), ("shop*",), groups=frozenset({"internal"}))
    assert Keyring(file.path).caller(bearer(key)) == expected


def test_a_name_is_given_once_until_it_is_revoked(file):
    first = create(file)
    with pytest.raises(KeyFileError, match="a key ada already"):
        create(file)
    file.revoke("ada")
    with pytest.raises(KeyFileError, match="no valid key ada"):
        file.revoke("ada")
    second, keyring = create(file), Keyring(file.path)
    assert is_refused(keyring, *bearer(first)) and not is_refused(keyring, *bearer(second))
    assert [key.state(time.time()) for key in file.read()] == ["revoked", "valid"]


def test_two_writers_do_not_lose_a_key(file):
    create(file)
    with sole_writer(file.path.with_suffix(".lock"), MachineError("held", "")), pytest.raises(MachineError):
        create(file, "bob")


def test_a_running_server_sees_what_changes(file):
    keyring = Keyring(file.path)
    assert keyring.caller([]) is OPERATOR and keyring.is_open
    key = create(file)
    assert is_refused(keyring) and not is_refused(keyring, *bearer(key)) and not keyring.is_open
    other = create(file, "bob")
    assert not is_refused(keyring, *bearer(other))
    file.revoke("ada")
    assert is_refused(keyring, *bearer(key)) and not is_refused(keyring, *bearer(other))


def test_revoking_the_last_key_opens_nothing(file):
    create(file)
    keyring = Keyring(file.path)
    file.revoke("ada")
    assert is_refused(keyring) and is_refused(Keyring(file.path))


def test_a_key_that_is_over_is_refused(file, monkeypatch):
    key, keyring = create(file, valid_seconds=60), Keyring(file.path)
    assert not is_refused(keyring, *bearer(key))
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert is_refused(keyring, *bearer(key)) and file.read()[0].state(later) == "expired"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: [],
        lambda key: [f"Basic {key}"],
        lambda key: [key],
        lambda key: bearer(key[:-1] + ("A" if key[-1] != "A" else "B")),
        lambda key: bearer(key[:4] + "0" * 12 + key[16:]),
        lambda key: bearer(key + "x"),
        lambda key: bearer(key) * 2,
        lambda key: bearer("é" + key),
        lambda key: bearer("x" * 100_000),
    ],
)
def test_what_is_not_the_key_is_refused(file, change):
    key, keyring = create(file), Keyring(file.path)
    assert is_refused(keyring, *change(key))
    assert not is_refused(keyring, f"bearer  {key}")


BROKEN = {
    "empty": b"",
    "no list": b"{}",
    "an empty list": b'{"keys": []}',
    "half": b'{"keys": [{"id": "0011',
    "another form": b'{"keys": [], "open": true}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_lets_nobody_in_until_it_is_whole_again(file, content, caplog):
    key, keyring, whole = create(file), Keyring(file.path), file.path.read_bytes()
    file.path.write_bytes(content)
    assert is_refused(keyring) and is_refused(keyring, *bearer(key))
    assert len(caplog.records) == 1 and "Nobody is let in" in caplog.text
    with pytest.raises(KeyFileError, match="damaged"):
        Keyring(file.path)
    with pytest.raises(KeyFileError, match="damaged"):
        create(file, "bob")
    file.path.write_bytes(whole)
    assert not is_refused(keyring, *bearer(key)) and is_refused(keyring)


@pytest.mark.parametrize("what", ["empty", "a dead link"])
def test_a_broken_file_that_comes_to_an_open_server_shuts_it(file, what):
    keyring = Keyring(file.path)
    assert not is_refused(keyring)
    file.path.parent.mkdir()
    file.path.write_bytes(b"") if what == "empty" else file.path.symlink_to("absent")
    assert is_refused(keyring)
    file.path.unlink()
    assert is_refused(keyring)


@pytest.mark.parametrize("leave", ["nothing", "a dead link", "a folder", "a file for its folder"])
def test_a_file_that_is_gone_lets_nobody_in(file, leave):
    key, keyring = create(file), Keyring(file.path)
    file.path.unlink()
    if leave == "a dead link":
        file.path.symlink_to("absent")
    elif leave == "a folder":
        file.path.mkdir()
    elif leave == "a file for its folder":
        shutil.rmtree(file.path.parent)
        file.path.parent.write_text("")
    assert is_refused(keyring) and is_refused(keyring, *bearer(key))


@pytest.mark.parametrize("leave", ["a dead link", "a folder"])
def test_a_server_does_not_start_over_what_cannot_be_read(file, leave):
    file.path.parent.mkdir()
    file.path.symlink_to("absent") if leave == "a dead link" else file.path.mkdir()
    with pytest.raises(KeyFileError):
        Keyring(file.path)


def test_an_id_that_is_there_twice_is_damage(file):
    create(file)
    document = json.loads(file.path.read_text())
    document["keys"] *= 2
    file.path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="twice"):
        file.read()


def test_the_file_is_read_once_for_many_requests(file, monkeypatch):
    key, keyring, reads = create(file), Keyring(file.path), []
    read = KeyFile.read
    monkeypatch.setattr(KeyFile, "read", lambda self: reads.append(1) or read(self))
    for _ in range(5):
        keyring.caller(bearer(key))
    assert len(reads) == 1
    os.utime(file.path)
    keyring.caller(bearer(key))
    assert len(reads) == 2


def test_patterns_say_what_exists():
    one = Caller("ada", frozenset({Scope.INFER, Scope.LOAD}), ("shop*", "x-?"))
    seen = [name for name in ("shop", "shop-2", "Shop", "ashop", "x-1", "x-12") if one.sees(name)]
    assert seen == ["shop", "shop-2", "x-1"] and not one.sees_all
    assert one.may(Scope.LOAD) and one.may(Scope.PROMOTE, Scope.INFER) and not one.may(Scope.PROMOTE)
    assert not one.may()
    none = Caller("ada", frozenset({Scope.INFER}), ())
    assert not none.sees("shop")
    admin = Caller("root", frozenset({Scope.ADMIN}), ())
    assert admin.sees_all and admin.may(Scope.LOAD) and admin.may()


def test_a_rotated_key_keeps_what_it_may_and_the_old_one_ends_after_the_overlap(file, monkeypatch):
    old = create(file, valid_seconds=864_000, limits=Limits(9, 1000, 2))
    before, keyring = file.read()[0], Keyring(file.path)
    record, new = file.rotate("ada", overlap_seconds=3600)
    assert new != old and (record.scopes, record.adapters) == (before.scopes, before.adapters)
    callers = [keyring.caller(bearer(key)) for key in (old, new)]
    assert callers[0] == callers[1] and callers[0].limits == Limits(9, 1000, 2) and callers[0].id != callers[1].id
    assert file.read()[0].replaced_by == record.id
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    assert is_refused(keyring, *bearer(old)) and not is_refused(keyring, *bearer(new))
    later += 864_000
    assert is_refused(keyring, *bearer(new))


def test_a_rotation_without_overlap_ends_the_old_one_at_once(file):
    old = create(file)
    record, new = file.rotate("ada", overlap_seconds=0)
    keyring = Keyring(file.path)
    assert is_refused(keyring, *bearer(old)) and not is_refused(keyring, *bearer(new)) and record.expires_at is None


def test_no_rotation_lengthens_an_old_key_s_life_and_revoking_ends_all_of_the_name(file):
    first = create(file, valid_seconds=60)
    _, second = file.rotate("ada", overlap_seconds=3600)
    _, third = file.rotate("ada", overlap_seconds=3600)
    ends = [key.expires_at for key in file.read()]
    assert max(ends) <= time.time() + 61
    keyring = Keyring(file.path)
    assert not any(is_refused(keyring, *bearer(key)) for key in (first, second, third))
    assert file.revoke("ada").id == file.read()[-1].id
    assert all(is_refused(keyring, *bearer(key)) for key in (first, second, third))
    with pytest.raises(KeyFileError, match="no valid key ada"):
        file.rotate("ada", overlap_seconds=60)


def test_a_log_that_was_altered_keeps_nobody_from_ending_a_key(file):
    key = create(file)
    for path in series_in(file.path.parent / AUDIT_NAME)["keys"]:
        path.write_bytes(path.read_bytes().replace(b"created", b"cleared"))
    with pytest.raises(RunError):
        create(file, "bob")
    with pytest.raises(RunError):
        file.revoke("ada")
    assert is_refused(Keyring(file.path), *bearer(key)) and len(file.read()) == 1


def test_a_key_holds_the_groups_it_was_made_with_and_one_from_before_there_were_any_the_default(file):
    key = create(file, groups=["payments / EU", "board"])
    assert Keyring(file.path).caller(bearer(key)).groups == {"payments / EU", "board"}
    document = json.loads(file.path.read_text())
    del document["keys"][0]["groups"]
    file.path.write_text(json.dumps(document))
    assert Keyring(file.path).caller(bearer(key)).groups == {"internal"}


def test_all_groups_are_needed_by_their_exact_names():
    one = Caller("ada", frozenset({Scope.INFER}), ("*",), groups=frozenset({"shop", "pay*"}))
    nobody = Caller("bob", frozenset({Scope.INFER}), ("*",))
    admin = Caller("root", frozenset({Scope.ADMIN}), ())
    for visibility, holders in (
        (("shop",), [one, admin]),
        (("shop", "public"), [one, admin]),
        (("shop", "pay*"), [one, admin]),
        (("public",), [one, nobody, admin]),
        (("shop", "payments"), [admin]),
        (("Shop",), [admin]),
        (("",), [admin]),
        ((), [admin]),
    ):
        assert [caller for caller in (one, nobody, admin) if caller.holds(visibility)] == holders, visibility
