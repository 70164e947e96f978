"""Time to start a jail, and pytest runs in it by two workers at once.

python bench/jail.py [--runs 100] [--workers 2]
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.registry import RUNNERS

TEST = "import module\n\ndef test_{0}():\n    assert module.same({0}) == {0}\n"


def small_repository(folder: Path) -> Path:
    """A module and ten tests of it."""
    (folder / "module.py").write_text("def same(value):\n    return value\n")
    (folder / "test_module.py").write_text("".join(TEST.format(number) for number in range(10)))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    words = parser.parse_args()
    began = time.perf_counter()
    jail = Jail.open()
    print(f"probe: {time.perf_counter() - began:.2f} s")
    with tempfile.TemporaryDirectory() as name:
        tree = small_repository(Path(name))
        starts = sorted(jail.run(["/bin/true"], tree=tree).seconds for _ in range(50))
        print(f"start: median {statistics.median(starts):.3f} s, 48th of 50 {starts[47]:.3f} s")
        runner = RUNNERS["pytest"]
        toolchain = runner.toolchain(None)

        def run(number: int) -> bool:
            overlay = {"module.py": b"def same(value):\n    return value\n", f"new_{number}.py": b""}
            done = runner.run(jail, toolchain, tree=tree, overlay=overlay, tests=["test_module.py"], limits=Limits())
            return len(done.outcomes) == 10 and set(done.outcomes.values()) == {"passed"}

        began = time.perf_counter()
        with ThreadPoolExecutor(words.workers) as pool:
            assert all(pool.map(run, range(words.runs)))
        seconds = time.perf_counter() - began
        print(
            f"{words.runs} pytest runs, {words.workers} workers: {seconds:.1f} s, {words.runs / seconds:.2f} a second"
        )


if __name__ == "__main__":
    main()
