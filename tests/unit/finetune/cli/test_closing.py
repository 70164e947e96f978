"""What the demo tells to type next."""

import sys
from pathlib import Path

import pytest

from finetune.cli.closing import program_name


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / "finetune"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("started", ["bin/finetune", "{0}/bin/finetune"])
def test_a_program_that_no_shell_finds_is_named_by_its_path(program: Path, monkeypatch, tmp_path, started):
    monkeypatch.setattr(sys, "argv", [started.format(tmp_path), "demo"])
    assert program_name() == started.format(tmp_path)


def test_one_that_a_shell_finds_is_named_by_its_name(program: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin")
    assert program_name() == "finetune"


@pytest.mark.parametrize("started", ["-c", "gone/finetune", "/usr/bin/pytest"])
def test_what_was_started_otherwise_is_named_by_its_name(program: Path, monkeypatch, started):
    monkeypatch.setattr(sys, "argv", [started])
    assert program_name() == "finetune"
