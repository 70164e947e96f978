"""A bundle is installed whole or not at all, and nothing of it is believed before its digest was seen."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.bundle import install
from finetune.bundle.install import BundleError, UnfitMachineError, check_bundle, check_machine, install_bundle
from tests.unit.finetune.bundle.conftest import write_wheel

Members = list[tuple[tarfile.TarInfo, bytes]]


def read_members(bundle: Path) -> Members:
    with tarfile.open(bundle) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def write_members(target: Path, members: Members) -> Path:
    with tarfile.open(target, "w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return target


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
    return member, content


def altered(bundle: Path, target: Path, change: Callable[[Members], object]) -> Path:
    members = read_members(bundle)
    change(members)
    return write_members(target, members)


def restated(bundle: Path, target: Path, **fields: object) -> Path:
    """The bundle with other things in its manifest, which agrees with itself."""
    members = read_members(bundle)
    document = {**json.loads(members[0][1]), **fields}
    members[0] = entry("bundle.json", json.dumps(document).encode())
    return write_members(target, members)


def with_content(bundle: Path, target: Path, *, name: str, content: bytes) -> Path:
    """The bundle with another file of that name, its digest in the manifest."""
    members = [entry(name, content) if member.name == name else (member, was) for member, was in read_members(bundle)]
    document = json.loads(members[0][1])
    for row in document["files"]:
        if row["name"] == name:
            row.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    members[0] = entry("bundle.json", json.dumps(document).encode())
    return write_members(target, members)


def flip(members: Members) -> None:
    member, content = members[-1]
    members[-1] = member, content[:-1] + bytes([content[-1] ^ 1])


TAMPERED = {
    "a flipped bit": flip,
    "an extra file": lambda members: members.append(entry("wheels/more.whl")),
    "a missing file": lambda members: members.pop(),
    "a file twice": lambda members: members.append(members[-1]),
    "a way out": lambda members: members.append(entry("../out")),
    "an absolute name": lambda members: members.append(entry("/tmp/out")),
    "a hidden name": lambda members: members.append(entry("wheels/.pth")),
    "a link": lambda members: members.append(entry("wheels/l", kind=tarfile.SYMTYPE, link="/etc/passwd")),
    "a hard link": lambda members: members.append(entry("wheels/l", kind=tarfile.LNKTYPE, link="install.py")),
    "a folder": lambda members: members.append(entry("wheels", kind=tarfile.DIRTYPE)),
    "a device": lambda members: members.append(entry("wheels/d", kind=tarfile.CHRTYPE)),
    "a second manifest": lambda members: members.append(members[0]),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_what_the_manifest_does_not_say_is_refused_before_anything_is_written(made, tmp_path, change):
    bundle = altered(made.path, tmp_path / "bad.tar", change)
    with pytest.raises(BundleError) as caught:
        install_bundle(bundle, tmp_path / "into", tell=lambda text: None)
    assert str(bundle) in caught.value.message and not isinstance(caught.value, UnfitMachineError)
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"version": "../../x"},
        {"version": 1},
        {"schema_version": 2},
        {"files": [{"name": "../a", "bytes": 1, "sha256": "0" * 64}]},
        {"files": None},
        {"installed_bytes": "9"},
        {"more": 1},
    ],
)
def test_a_manifest_that_is_not_of_its_form_is_refused(made, tmp_path, fields):
    with pytest.raises(BundleError):
        check_bundle(restated(made.path, tmp_path / "bad.tar", **fields))


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "wheels/../../out", "wheels/.pth", "a//b", "bundle.json"])
def test_a_name_that_leads_elsewhere_is_refused_though_the_manifest_has_it(made, tmp_path, name):
    members = [*read_members(made.path), entry(name)]
    document = json.loads(members[0][1])
    document["files"].append({"name": name, "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()})
    members[0] = entry("bundle.json", json.dumps(document).encode())
    with pytest.raises(BundleError, match="cannot be a file of it"):
        check_bundle(write_members(tmp_path / "bad.tar", members))


def test_a_manifest_that_is_not_first_is_not_looked_for(made, tmp_path):
    with pytest.raises(BundleError, match="is not the first"):
        check_bundle(altered(made.path, tmp_path / "bad.tar", lambda members: members.reverse()))


def test_what_is_cut_short_or_no_archive_is_refused(made, tmp_path):
    cut = tmp_path / "cut.tar"
    cut.write_bytes(made.path.read_bytes()[:-200_000])
    for path in (cut, Path(__file__), tmp_path / "nowhere.tar"):
        with pytest.raises(BundleError):
            check_bundle(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"python": "3.99"}, "for Python 3.99"),
        ({"machine": "sparc"}, "Linux on sparc"),
        ({"glibc": "2.999"}, "needs glibc 2.999"),
    ],
)
def test_another_machine_is_told_apart(made, tmp_path, fields, message):
    with pytest.raises(UnfitMachineError, match=message):
        check_machine(check_bundle(restated(made.path, tmp_path / "other.tar", **fields)))


def test_too_small_a_disk_is_told_before_anything_is_unpacked(made, tmp_path):
    large = restated(made.path, tmp_path / "large.tar", installed_bytes=1 << 60)
    with pytest.raises(UnfitMachineError, match="Installing takes"):
        install_bundle(large, tmp_path / "into", tell=lambda text: None)


def test_a_folder_of_other_things_is_left_alone(made, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UnfitMachineError, match="other things"):
        install_bundle(made.path, tmp_path, tell=lambda text: None)


def says(into: Path) -> str:
    program = into / "current" / "bin" / "finetune"
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_a_failed_upgrade_leaves_what_was_there_and_the_next_one_works(made, make_bundle, tmp_path):
    """Release 1.0 comes by install.py alone, in a namespace without a network, as on a machine without finetune."""
    with tarfile.open(made.path) as archive:
        archive.extract("install.py", tmp_path, filter="data")
    into = tmp_path / "opt"
    command = [sys.executable, "-I", "-S", str(tmp_path / "install.py"), str(made.path), "--into", str(into)]
    jail = ["bwrap", "--unshare-net", "--ro-bind", "/", "/", "--dev", "/dev", "--bind", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [*jail, *command], capture_output=True, text=True, check=True, env={"PATH": os.defpath}, umask=0o077
    )
    assert f"{into}/current/bin/finetune demo" in done.stdout and says(into) == "tiny plain"
    assert (into / "current" / "recipes" / "a.yaml").is_file()
    first = (into / "current").resolve()
    # others than the one who installed it may use it
    for path in (into, first, first / "bin" / "finetune", first / "recipes"):
        assert path.stat().st_mode & 0o555 == 0o555
    # pip itself refuses a wheel whose digest is not the one in the requirements, though manifest and archive agree
    pins = b"tinydep==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
    wrong = with_content(made.path, tmp_path / "wrong.tar", name="requirements.txt", content=pins)
    with pytest.raises(UnfitMachineError, match="nothing was changed"):
        install_bundle(wrong, into, tell=lambda text: None)
    assert says(into) == "tiny plain" and list((into / "versions").iterdir()) == [first]

    (tmp_path / "own").mkdir()
    write_wheel(tmp_path / "own", "tinydep", "1.0+two", code="KIND = 'second'\n")
    upgrade = make_bundle("2.0", tmp_path / "own").path
    half = into / "versions" / check_bundle(upgrade).name
    half.mkdir()
    (half / "left").write_text("by an install that was killed")
    done_again = install_bundle(upgrade, into, tell=lambda text: None)
    assert done_again.replaced == first.name and says(into) == "tiny second" and not (half / "left").exists()
    # a version that is there whole is only made current again: this is the way back
    assert install_bundle(made.path, into, tell=lambda text: None).folder == first and says(into) == "tiny plain"


def test_a_second_install_into_the_same_folder_is_refused(made, tmp_path):
    into = tmp_path / "into"
    with install._owned(into), pytest.raises(UnfitMachineError, match="Another install"):
        install_bundle(made.path, into, tell=lambda text: None)
