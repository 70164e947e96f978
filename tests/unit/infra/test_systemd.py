"""The units: systemd finds no mistake in them, rates them safe, and nothing but this machine is reached from them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from serving.settings import ServerSettings

UNITS = sorted((Path(__file__).parents[3] / "infra" / "systemd").glob("*.service"))
NAMES = [path.name for path in UNITS]
ANALYZE = shutil.which("systemd-analyze")
PROGRAM = "/opt/finetune/current/bin/finetune"
# of 100; without any setting a service has 96
MAX_EXPOSURE = 15

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze: apt-get install systemd")


def settings(path: Path) -> dict[str, list[str]]:
    """The lines of the section [Service], by key."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def analyzed(command: list[str], path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The verdict of systemd-analyze on a unit whose program is one that is here."""
    copied = folder / path.name.replace("@.", "@shop.")
    copied.write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    assert ANALYZE
    return subprocess.run([ANALYZE, *command, str(copied)], capture_output=True, text=True, check=False)


@needs_systemd
@pytest.mark.parametrize("path", UNITS, ids=NAMES)
def test_systemd_finds_no_mistake(path, tmp_path):
    found = analyzed(["verify", "--man=no"], path, tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@needs_systemd
def test_a_mistake_is_found(tmp_path):
    path = tmp_path / "wrong.service"
    path.write_text(UNITS[0].read_text().replace("IPAddressDeny=any", "IPAddresDeny=any"))
    assert "IPAddresDeny" in analyzed(["verify", "--man=no"], path, tmp_path).stderr


@needs_systemd
@pytest.mark.parametrize("path", UNITS, ids=NAMES)
def test_systemd_rates_it_safe(path, tmp_path):
    found = analyzed(["security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}"], path, tmp_path)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", UNITS, ids=NAMES)
def test_only_this_machine_is_reached(path):
    found = settings(path)
    assert found["IPAddressDeny"] == ["any"] and found["IPAddressAllow"] == ["localhost"]
    assert found["IPAccounting"] == ["yes"]
    assert found["User"] == ["finetune"] and found["NoNewPrivileges"] == ["yes"]
    (command,) = found["ExecStart"]
    assert command.startswith(f"{PROGRAM} ") and "--home /var/lib/finetune" in command


def test_training_has_no_network_and_time_to_save():
    (train,) = [path for path in UNITS if "train" in path.name]
    found = settings(train)
    assert found["PrivateNetwork"] == ["yes"] and "Restart" not in found
    assert int(found["TimeoutStopSec"][0]) >= 300


def test_the_endpoint_may_listen_where_it_listens():
    (serve,) = [path for path in UNITS if "serve" in path.name]
    assert settings(serve)["SocketBindAllow"] == [f"tcp:{ServerSettings().port}"]
