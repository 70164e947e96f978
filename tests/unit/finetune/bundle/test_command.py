"""finetune bundle: exit codes and documents. What the installer does is tested in tests/unit/finetune/bundle."""

import json
import shutil

import pytest

from finetune.cli.main import run


@pytest.mark.parametrize(
    "words",
    [
        ["install", "b.tar"],
        ["install", "b.tar", "--into", "x", "--verify"],
        ["create", "--out", "b.tar", "--with", "server"],
        ["create"],
    ],
)
def test_a_command_line_that_is_wrong_exits_with_2(words):
    assert run(["bundle", *words]) == 2


def test_a_bundle_is_verified_and_a_damaged_one_exits_with_3(made, tmp_path, capsys):
    assert run(["bundle", "install", str(made.path), "--verify", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["whole"] is True and document["version"].startswith("1.0-")
    damaged = shutil.copy(made.path, tmp_path / "damaged.tar")
    with open(damaged, "r+b") as stream:
        stream.seek(-20_000, 2)
        stream.write(b"x" * 100)
    assert run(["bundle", "install", str(damaged), "--into", str(tmp_path / "into"), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "InputError" and str(damaged) in document["message"]


def test_an_install_that_cannot_be_here_exits_with_4(made, tmp_path, capsys):
    (tmp_path / "mine").write_text("x")
    assert run(["bundle", "install", str(made.path), "--into", str(tmp_path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"] == "MachineError"
