"""finetune adapter merge, from the command line to a folder that verifies."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.cli.main import run
from finetune.contracts.run import Home

pytestmark = pytest.mark.slow


def printed(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_run_is_merged_and_verified(
    trained_home: Home, tiny_base: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    arguments = ["adapter", "merge", "tiny", "--base", tiny_base, "--out", out, "--home", trained_home.root]
    code, merged = printed([*arguments, "--dataset", tiny_dataset], capsys)
    assert (code, merged["folder"]) == (0, str(out))
    assert [candidate["form"] for candidate in merged["candidates"]] == ["w16", "nf4"]
    assert merged["sample"]["num_rows"] == 24
    code, verified = printed(["adapter", "verify", out], capsys)
    assert (code, verified["valid"]) == (0, True)
    code, refused = printed(["adapter", "verify", out, "--base", tiny_base], capsys)
    assert (code, "needs no base" in json.dumps(refused)) == (2, True)
    code, refused = printed(arguments, capsys)
    assert (code, "holds something" in json.dumps(refused)) == (2, True)
    assert run([str(word) for word in ["adapter", "verify", out]]) == 0
    assert "files as its manifest says" in capsys.readouterr().out
