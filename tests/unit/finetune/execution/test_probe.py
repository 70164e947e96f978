"""The probe finds each guard that is taken away: the jail is made without it, and is not opened."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError
from finetune.execution import jail as jail_module
from finetune.execution import mounts
from finetune.execution.host import find_host
from finetune.execution.jail import Jail
from finetune.execution.probe import probe

SPACES = "--unshare-uts\0--unshare-ipc"
ROOT = Path(__file__).parents[4]


def changed(arguments, changes):
    """A command line with each of changes, given as words: words instead."""
    line = "\0".join(arguments) + "\0"
    for old, new in changes.items():
        assert f"\0{old}\0" in line, old
        line = line.replace(f"\0{old}\0", f"\0{new}\0" if new else "\0")
    return line.rstrip("\0").split("\0")


@pytest.mark.parametrize(
    ("changes", "attack"),
    [
        ({"--unshare-all": f"{SPACES}\0--unshare-pid"}, "a connection to the host"),
        (
            {"--unshare-all": f"{SPACES}\0--unshare-net", "--proc\0/proc": "--ro-bind\0/proc\0/proc"},
            "a process of the host",
        ),
        ({"--remount-ro\0/dev": ""}, "writing to /dev"),
        ({"--remount-ro\0/": ""}, "writing to /"),
        ({"--remount-ro\0/": "--ro-bind\0/var/tmp\0/var/tmp\0--remount-ro\0/"}, "reading outside"),
        ({"--bind\0{stage}/disk/tmp\0/tmp": "--tmpfs\0/tmp"}, "filling the disk"),
    ],
)
def test_the_probe_finds_a_guard_that_is_gone(monkeypatch, changes, attack):
    stage = mounts.stage_folder(os.getpid())
    places = {old.format(stage=stage): new.format(stage=stage) for old, new in changes.items()}
    whole = mounts.bwrap_arguments
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    monkeypatch.setattr(
        jail_module, "bwrap_arguments", lambda *words, **options: changed(whole(*words, **options), places)
    )
    with pytest.raises(MachineError) as told:
        probe(Jail(find_host()))
    assert attack in str(told.value)


@pytest.mark.parametrize(
    ("word", "attack"),
    [("--nproc=", "a fork bomb"), ("--data=", "more than 268,435,456 bytes of memory"), ("--fsize=", None)],
)
def test_the_probe_finds_a_limit_that_is_gone(monkeypatch, word, attack):
    whole = jail_module.staged
    monkeypatch.setattr(
        jail_module,
        "staged",
        lambda host, inner, **options: whole(host, [w for w in inner if not w.startswith(word)], **options),
    )
    if attack is None:  # the disk's own size holds without it
        return probe(Jail(find_host()))
    with pytest.raises(MachineError, match=attack):
        probe(Jail(find_host()))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_user_without_root_has_the_same_jail(tmp_path):
    python = shutil.which("python3", path="/usr/bin")
    version = subprocess.run(
        [python or "false", "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, check=False
    )
    if version.stdout != b"True\n":
        pytest.skip("no Python 3.11 that another user can read")
    package = tmp_path / "finetune"
    for name in ("execution", "contracts/errors.py"):
        source, target = ROOT / "finetune" / name, package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    shown = Path("/tmp", f"jail-other-user-{os.getpid()}")
    shutil.copytree(package.parent, shown)
    shown.chmod(0o755)
    try:
        code = "from finetune.execution.jail import Jail; import os; Jail.open(); print('open', os.getuid())"
        drop = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"]
        done = subprocess.run(
            [*drop, python, "-c", code],
            cwd=shown,
            capture_output=True,
            check=False,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )
    finally:
        shutil.rmtree(shown)
    assert (done.stdout, done.stderr) == ("open 1234\n", "")
