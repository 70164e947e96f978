"""Seconds until `finetune --help` has answered, beside a bare interpreter. Run: .venv/bin/python bench/startup.py"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 15
LIMIT_SECONDS = 0.3
CONSOLE_SCRIPT = Path(sys.executable).parent / "finetune"


def seconds(command: list[str]) -> float:
    """Median over REPEATS, after one run that fills the disk cache."""
    subprocess.run(command, capture_output=True, check=True)
    spent = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def main() -> None:
    bare = seconds([sys.executable, "-c", "pass"])
    for arguments in (["--help"], ["train", "--help"], ["data", "build", "--help"], ["serve", "start", "--help"]):
        spent = seconds([str(CONSOLE_SCRIPT), *arguments])
        within = "within" if spent < LIMIT_SECONDS else "OVER"
        print(
            f"finetune {' '.join(arguments):<18} {spent:.3f} s, {within} {LIMIT_SECONDS} s (interpreter {bare:.3f} s)"
        )


if __name__ == "__main__":
    main()
