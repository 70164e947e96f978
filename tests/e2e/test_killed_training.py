"""A few real kills of real processes at random moments; `python bench/kill_train.py` tries many more."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "kill_train.py"
SMALLER = ("train.max_steps=6", "evaluate.max_rows=1")


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(unit: Any, tmp_path: Path) -> None:
    dataset = unit.save_dataset(tmp_path / "dataset", unit.mixed_examples(4))
    settings = [word for value in SMALLER for word in ("--set", value)]
    command = [sys.executable, str(BENCH), str(dataset), "--times", "3", "--scratch", str(tmp_path), *settings]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "3 kills in runs of" in ended.stdout
