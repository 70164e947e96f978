"""A thousand spoiled adapters: each is refused in words, or is the same adapter still; see fuzz_adapters.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz_adapters.py")


@pytest.mark.slow
def test_a_thousand_spoiled_adapters_are_refused_or_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, FUZZ, "1000", "0"], check=False, cwd=FUZZ.parents[2], capture_output=True, text=True,
        timeout=600, env={"PYTHONPATH": str(FUZZ.parents[2]), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # as many kinds of reasons as there are checks, or nearly: what refuses everything would pass, too
    assert found["adapters"] == 1000 and len(found["reasons"]) > 40
