"""A bundle holds what the target needs, pinned by digest, and its bytes depend on nothing else."""

import json
import shutil
import tarfile
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from finetune.bundle.create import brought_along, create_bundle, running_project
from finetune.bundle.fetching import fetch
from finetune.bundle.install import SAFE_NAME, check_bundle
from finetune.bundle.own_wheel import of_installed, write_own_wheel
from finetune.bundle.wheels import Target, read_wheel, running_python
from finetune.contracts.errors import InputError, MachineError, UsageError
from tests.unit.finetune.bundle.conftest import pip_looks_in, write_project, write_wheel


def read(bundle: Path, name: str) -> str:
    with tarfile.open(bundle) as archive:
        stream = archive.extractfile(name)
        assert stream is not None
        return stream.read().decode()


def test_a_bundle_holds_wheels_by_digest_the_installer_and_what_one_reads(made):
    names = [entry.name for entry in check_bundle(made.path).manifest.files]
    assert {"install.py", "requirements.txt", "licences.json", "requirements.lock", "recipes/a.yaml", "docs/a.md"} < {
        *names
    }
    assert made.num_wheels == 3 and made.unknown_licences == ()
    pins = read(made.path, "requirements.txt").splitlines()
    assert [pin.partition("==")[0] for pin in pins] == ["finetune", "pip", "tinydep"]
    # the lock's version, though there is a newer one
    assert pins[-1].startswith("tinydep==1.0 ")
    assert all(" --hash=sha256:" in pin for pin in pins)
    licences = {row["name"]: row["licence"] for row in json.loads(read(made.path, "licences.json"))}
    assert licences["finetune"] == "Apache-2.0" and licences["tinydep"] == "MIT"
    assert not any("__pycache__" in name for name in names) and list(made.path.parent.glob(".*")) == []


def test_all_that_this_project_brings_along_is_taken_by_what_installs_it():
    names = brought_along(Path(__file__).parents[4])
    assert {"docs/air-gap.md", "recipes/README.md"} < names.keys()
    assert [name for name in names if not SAFE_NAME.fullmatch(name)] == []


def test_what_a_user_keeps_in_infra_stays_there(tmp_path):
    for name in ("infra/secrets/password", "infra/.env", "infra/container/finetune.tar", "docs/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert [*brought_along(tmp_path)] == ["docs/a.md"]


def test_the_same_inputs_give_the_same_bytes(made, make_bundle):
    assert make_bundle().sha256 == made.sha256


def test_a_wheel_of_the_users_own_goes_in_instead(make_bundle, tmp_path):
    write_wheel(tmp_path, "tinydep", "1.0+cu130", code="KIND = 'cuda'\n")
    made = make_bundle(own_wheels=tmp_path)
    assert "tinydep==1.0+cu130 --hash" in read(made.path, "requirements.txt")
    assert made.num_wheels == 3 and made.unknown_licences == ("tinydep",)


def test_a_bundle_for_another_machine_says_so(make_bundle):
    manifest = check_bundle(make_bundle(target=Target("manylinux_2_34_aarch64", "3.13")).path).manifest
    assert (manifest.python, manifest.machine, manifest.glibc) == ("3.13", "aarch64", "")


def test_an_empty_folder_of_own_wheels_is_a_mistake(make_bundle, tmp_path):
    with pytest.raises(InputError, match="no wheel"):
        make_bundle(own_wheels=tmp_path)


def test_what_was_fetched_waits_for_the_next_try(index, tmp_path):
    project, half = write_project(tmp_path / "project", "1.0"), tmp_path / "half"
    half.mkdir()
    (pip,) = index.glob("pip-*.whl")
    (half / pip.name).symlink_to(pip)
    out, target = tmp_path / "tiny.tar", Target(None, running_python())
    with pytest.raises(MachineError, match="could not fetch"), pip_looks_in(half):
        create_bundle(project, out, target=target)
    (parts,) = tmp_path.glob(".tiny.tar.*.parts")
    assert not out.exists()
    # what lies there whole is not asked for again, what was cut short is
    shutil.copy(pip, parts)
    (parts / "tinydep-1.0-py3-none-any.whl").write_bytes(b"PK cut short")
    (half / "tinydep-1.0-py3-none-any.whl").symlink_to(index / "tinydep-1.0-py3-none-any.whl")
    (half / pip.name).unlink()
    with pip_looks_in(half):
        create_bundle(project, out, target=target)
    assert check_bundle(out).manifest.version == "1.0" and not parts.exists()


def test_two_wheels_of_one_name_are_refused(index, tmp_path):
    lock = write_project(tmp_path / "project", "1.0").root / "requirements.lock"
    write_wheel(tmp_path, "tinydep", "0.9")
    write_wheel(tmp_path, "tinydep", "0.8")
    with pytest.raises(MachineError, match="two wheels of tinydep"):
        fetch(["tinydep"], tmp_path, lock=lock, target=Target(None, running_python()))


def test_markers_are_judged_by_the_machine_that_the_bundle_is_for(tmp_path):
    lock = write_project(tmp_path / "project", "1.0").root / "requirements.lock"
    write_wheel(tmp_path, "old", "1", Requires_Dist="tinydep; python_version < '3.12'")
    write_wheel(tmp_path, "tinydep", "1.0")
    for python, names in (("3.11", ["old", "tinydep"]), ("3.12", ["old"])):
        target = Target("manylinux_2_28_x86_64", python)
        assert [wheel.name for wheel in fetch(["old"], tmp_path, lock=lock, target=target)] == names


def test_wheels_that_do_not_fit_each_other_are_told_where_the_bundle_is_made(make_bundle, tmp_path):
    write_wheel(tmp_path, "other", "1", Requires_Dist="tinydep<1")
    with pytest.raises(MachineError, match="do not fit"):
        make_bundle(own_wheels=tmp_path)


def test_this_project_is_found_with_its_lock_and_what_it_needs_today():
    project = running_project(("serve",))
    assert (project.root / "requirements.lock").is_file() and (project.own.sources / "finetune" / "bundle").is_dir()
    assert 'Requires-Dist: fastapi>=0.120; extra == "serve"' in project.own.metadata["METADATA"].splitlines()


@pytest.mark.parametrize(
    ("tag", "glibc"),
    [
        ("py3-none-any", 0),
        ("cp311-cp311-manylinux_2_28_x86_64", 28),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", 17),
        ("cp311-cp311-manylinux1_x86_64.manylinux_2_28_x86_64", 5),
    ],
)
def test_a_wheel_names_the_glibc_that_it_needs(tmp_path, tag, glibc):
    assert read_wheel(write_wheel(tmp_path, "a", "1", tag=tag)).glibc == glibc


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({}, "unknown"),
        ({"License": "UNKNOWN"}, "unknown"),
        ({"License": "x" * 200, "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "BSD", "License_Expression": "BSD-3-Clause"}, "BSD-3-Clause"),
    ],
)
def test_the_licence_is_what_the_metadata_says(tmp_path, metadata, licence):
    assert read_wheel(write_wheel(tmp_path, "a", "1", **metadata)).licence == licence


def test_a_platform_takes_the_wheels_of_each_older_glibc():
    words = Target("manylinux_2_28_x86_64", "3.12").options
    assert words[:4] == ["--implementation", "cp", "--python-version", "3.12"]
    tags = words[5::2]
    assert tags[0] == "manylinux_2_28_x86_64" and tags[-1] == "linux_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64"} < set(tags) and "manylinux_2_29_x86_64" not in tags


@pytest.mark.parametrize("target", [Target("windows", "3.12"), Target(None, "3.99")])
def test_a_platform_that_is_none_is_a_usage_error(target):
    with pytest.raises(UsageError):
        _ = target.options


def test_what_is_no_wheel_or_is_damaged_is_told(tmp_path):
    (tmp_path / "a-1-py3-none-any.whl").write_text("no")
    damaged = write_wheel(tmp_path, "b", "1", code="KIND = 'whole'\n")
    damaged.write_bytes(damaged.read_bytes().replace(b"whole", b"wrong"))
    for path in (tmp_path / "a-1-py3-none-any.whl", damaged):
        with pytest.raises(MachineError, match="no wheel"):
            read_wheel(path)


def test_what_is_installed_gives_the_wheel_that_it_was_installed_from(tmp_path):
    own = write_project(tmp_path / "checkout", "1.0").own
    first = write_own_wheel(own, tmp_path)
    with zipfile.ZipFile(first) as archive:
        archive.extractall(tmp_path / "site")
    installed = of_installed(Distribution.at(tmp_path / "site" / "finetune-1.0.dist-info"), tmp_path / "site")
    (tmp_path / "again").mkdir()
    assert write_own_wheel(installed, tmp_path / "again").read_bytes() == first.read_bytes()
