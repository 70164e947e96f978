"""A name moves while many clients ask: the short form of `python bench/flips.py`, which asks 10,000 times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "flips.py"


@pytest.mark.slow
def test_no_answer_is_lost_or_of_two_versions_while_a_name_moves() -> None:
    command = [sys.executable, str(BENCH), "--requests", "300", "--every", "0.3"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert (found["answers"], found["dropped"], found["mixed"]) == (300, 0, 0)
    assert len(found["by_version"]) == 3 and found["moves"] > 3
