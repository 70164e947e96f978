"""finetune base: what a person types to bring a base in, and what a program reads of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune.cli.main import run


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def typed(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    """Exit code and JSON document of one command line."""
    code = run(["base", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_base_is_added_listed_and_verified(family_base, home, tmp_path, capsys):
    source = tmp_path / "Tiny"
    shutil.copytree(family_base("qwen3_5"), source)
    code, document = typed("add", str(source), capsys=capsys)
    assert code == 2 and "--licence" in document["hint"]
    code, document = typed("add", str(source), "--licence", "mit", capsys=capsys)
    folder = Path(document["folder"])
    assert code == 0 and folder.parent == home / "bases" and document["licence_from"] == "--licence"
    _, listed = typed("list", capsys=capsys)
    assert [(row["name"], row["folder"]) for row in listed["bases"]] == [("tiny", str(folder))]
    assert typed("verify", "tiny", capsys=capsys)[1]["whole"] is True
    os.chmod(folder / "config.json", 0o644)
    (folder / "config.json").write_text("{}")
    code, document = typed("verify", "tiny", capsys=capsys)
    assert code == 3 and str(folder / "config.json") in document["message"]


def test_a_name_that_no_base_has_is_told(home, capsys):
    code, document = typed("verify", "nothing", capsys=capsys)
    assert code == 3 and "finetune base list" in document["hint"]
    assert run(["base", "list"]) == 0
    assert "No bases in" in capsys.readouterr().out
