"""Kill a run of training again and again, go on each time, and compare what it gave with an undisturbed run.

python bench/kill_train.py DATASET [--times 30] [--seed 0] [--set KEY=VALUE]... [--scratch DIR]

Moments are spread over the whole duration of an undisturbed run of the embedded recipe, made short, and shuffled. Each
kill is SIGKILL to a process of its own, forked when the libraries are loaded, so that no moment is spent on imports.
After a kill the run goes on with --resume: to its end, or to the next kill. Where it ended, the adapter's weights are
compared bit for bit, and so are loss and gradient norm of every step, also of those that were done twice; the next run
begins with nothing.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kills import kill_all, table

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml"
# Short steps, a checkpoint every second one, and dropout, so that the random state counts
SETTINGS = (
    "data.max_tokens=128",
    "lora.dropout=0.1",
    "train.micro_batch=2",
    "train.accumulation=1",
    "train.max_steps=12",
    "train.save_every_steps=2",
    "train.log_every_steps=1",
    "evaluate.max_rows=4",
)
COMPARED = ("train/loss", "train/gradient_norm")


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave: the digest of its adapter's weights, and the values of each (name, step) of its journal."""

    weights: str
    points: dict[tuple[str, int], set[float]]


@dataclass(frozen=True, slots=True)
class Training:
    """Runs with these values of the recipe; wanted is what an undisturbed one gives."""

    recipe: list[str]
    wanted: Result

    def killed(self, folder: Path, seconds: float) -> bool:
        return killed(train(folder, self.recipe), seconds)

    def finish(self, folder: Path) -> None:
        wait(train(folder, self.recipe))

    def ended(self, folder: Path) -> bool:
        return finished(folder) is not None

    def there(self, folder: Path) -> str:
        return what_is_there(folder)

    def undisturbed(self, folder: Path) -> bool:
        return result(folder) == self.wanted


def main() -> int:
    arguments = parser().parse_args()
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        return run(arguments, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("dataset", type=Path, help="a folder made by `finetune data build`")
    made.add_argument("--times", type=int, default=30, help="kills")
    made.add_argument("--seed", type=int, default=0, help="decides the order of the moments and where a run may end")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the recipe")
    made.add_argument("--scratch", type=Path, help="where to work; the folder for temporary files if not given")
    return made


def run(arguments: argparse.Namespace, scratch: Path) -> int:
    recipe = [*SETTINGS, f"data.dataset={arguments.dataset.resolve()}", *arguments.set]
    load_libraries()
    started = time.monotonic()
    wait(train(scratch / "whole", recipe))
    duration = time.monotonic() - started
    wanted = result(scratch / "whole")
    if wanted is None:
        sys.stderr.write((scratch / "whole" / "log").read_text())
        return 1
    sys.stderr.write(f"undisturbed: {duration:.1f} s, weights {wanted.weights[:12]}\n")
    kills, ends = kill_all(
        Training(recipe, wanted), scratch, duration=duration, times=arguments.times, seed=arguments.seed
    )
    print(table(kills))
    print(f"\n{len(kills)} kills in runs of {duration:.1f} s; {sum(ends)} of {len(ends)} that ended are as undisturbed")
    return 0 if all(ends) else 1


def train(home: Path, recipe: list[str]) -> int:
    """Begin a run, or go on with the one that home has, in a process of its own; returns its number."""
    home.mkdir(exist_ok=True)
    known = run_folder(home)
    values = [word for value in recipe for word in ("--set", value)]
    words = ["train", str(RECIPE), *values] if known is None else ["train", "--resume", known.name]
    child = os.fork()
    if child:
        return child
    try:
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from finetune.cli.main import run

        os._exit(run([*words, "--home", str(home)]))
    finally:
        os._exit(1)


def load_libraries() -> None:
    """Import what a run needs, so that each fork has it."""
    sys.path.insert(0, str(ROOT))
    from finetune.guard.offline import go_offline

    go_offline()
    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        import mlflow.store.tracking.sqlalchemy_store

        import finetune.model.experts
        import finetune.train.sft
        import finetune.train.trl_bridge

        assert mlflow and finetune.model.experts and finetune.train.sft


def wait(child: int, seconds: float = float("inf")) -> bool:
    """Wait for a process for some seconds; whether it has ended."""
    deadline = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def killed(child: int, seconds: float) -> bool:
    """Kill a run after some seconds; False when it ended by itself before."""
    if wait(child, seconds):
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def run_folder(home: Path) -> Path | None:
    """The one run of home that was begun; None where the kill came before."""
    return next((path.parent for path in home.glob("runs/*/run.json")), None)


def finished(home: Path) -> Path | None:
    """The run's folder, where the run has ended well."""
    folder = run_folder(home)
    if folder is None or json.loads((folder / "run.json").read_text())["status"] != "finished":
        return None
    return folder


def result(home: Path) -> Result | None:
    """What the finished run of home gave, None where it has not finished."""
    folder = finished(home)
    if folder is None:
        return None
    points: dict[tuple[str, int], set[float]] = {}
    for line in (folder / "tracking.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "metrics":
            for name in set(entry["body"]["values"]) & set(COMPARED):
                points.setdefault((name, entry["body"]["step"]), set()).add(entry["body"]["values"][name])
    weights = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    return Result(sha256(weights).hexdigest(), points)


def what_is_there(home: Path) -> str:
    """What a killed run left, in words."""
    folder = run_folder(home)
    if folder is None:
        return "nothing"
    steps = sorted(path.name for path in folder.glob("checkpoints/step-*"))
    parts = [
        json.loads((folder / "run.json").read_text())["status"],
        steps[-1] if steps else "no checkpoint",
        "half a checkpoint" if any(folder.glob("checkpoints/.step-*.new.*")) else "",
        "half an adapter" if any(folder.glob(".adapter.new.*")) or any(home.glob("adapters/.*.new.*")) else "",
        "adapter" if (folder / "adapter").exists() else "",
    ]
    return ", ".join(filter(None, parts))


if __name__ == "__main__":
    sys.exit(main())
