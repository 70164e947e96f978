"""The instruments of infra/egress, started as a security team starts them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INSTRUMENTS = ROOT / "infra" / "egress"
TRACE, CAPTURE = INSTRUMENTS / "trace.py", INSTRUMENTS / "capture.py"
# what they end with: docs/egress.md
ATTEMPTS, NO_INSTRUMENT = 120, 125


def instrument(
    program: Path, folder: Path, command: Sequence[str], *, timeout_seconds: float = 120.0
) -> "subprocess.CompletedProcess[str]":
    """Run a command under an instrument; folder gets its evidence."""
    watched = [sys.executable, str(program), "--out", str(folder), *command]
    return subprocess.run(watched, capture_output=True, text=True, check=False, timeout=timeout_seconds)


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())
