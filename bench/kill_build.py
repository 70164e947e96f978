"""Kill a build of a repository again and again, let it end, and compare what it gave with an undisturbed build.

python bench/kill_build.py REPOSITORY [--times 20] [--seed 0] [--workers 2] [--scratch DIR]

Moments are spread over the whole duration of an undisturbed build and shuffled. Each kill is SIGKILL to the whole
process group. After a kill the build is started again in the same work folder: to its end, or to the next kill. Where
it ended, everything in the dataset's folder is compared byte for byte, and the next build begins with nothing.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = "import sys; from data_pipelines.cli import app; app(args=sys.argv[1:], prog_name='finetune data')"
END_SHARE = 0.4
LEAST_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: seconds after the start, of which start in this work folder, and what stood there afterwards."""

    seconds: float
    start: int
    there: str


def main() -> int:
    arguments = parser().parse_args()
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        return run(arguments, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("repository", type=Path, help="a clone or a bare repository")
    made.add_argument("--times", type=int, default=20, help="kills")
    made.add_argument("--seed", type=int, default=0, help="decides the order of the moments and where a build may end")
    made.add_argument("--workers", type=int, default=2, help="processes of a build")
    made.add_argument("--scratch", type=Path, help="where to work; the folder for temporary files if not given")
    return made


def run(arguments: argparse.Namespace, scratch: Path) -> int:
    (scratch / "key").write_text("the key of a bench, 32 bytes long", encoding="utf-8")
    pipeline = scratch / "pipeline.yaml"
    pipeline.write_text(
        f"sources:\n  - path: {arguments.repository.resolve()}\n    name: killed\n"
        f"redact:\n  key_file: {scratch / 'key'}\nrun:\n  workers: {arguments.workers}\n",
        encoding="utf-8",
    )
    started = time.monotonic()
    build(pipeline, scratch / "whole").wait()
    duration = time.monotonic() - started
    wanted = digests(scratch / "whole" / "dataset")
    sys.stderr.write(f"undisturbed: {duration:.1f} s, {len(wanted)} files\n")
    kills, ends = kill_all(pipeline, scratch, duration=duration, wanted=wanted, arguments=arguments)
    print(table(kills))
    print(
        f"\n{len(kills)} kills in builds of {duration:.1f} s; {sum(ends)} of {len(ends)} that ended are as undisturbed"
    )
    return 0 if all(ends) else 1


def kill_all(
    pipeline: Path, scratch: Path, *, duration: float, wanted: dict[str, str], arguments: argparse.Namespace
) -> tuple[list[Kill], list[bool]]:
    """All kills, and for each build that ended whether it gave what was wanted."""
    draw = random.Random(arguments.seed)
    step = duration / arguments.times
    moments = [LEAST_SECONDS + step * (number + draw.random()) for number in range(arguments.times)]
    draw.shuffle(moments)
    kills: list[Kill] = []
    ends: list[bool] = []
    folder, start = scratch / "0", 0
    while moments:
        seconds = moments.pop()
        start += 1
        started = time.monotonic()
        if killed(build(pipeline, folder), seconds):
            kills.append(Kill(seconds, start, what_is_there(folder)))
            sys.stderr.write(f"kill {len(kills)} after {seconds:.1f} s: {kills[-1].there}\n")
            if moments and draw.random() > END_SHARE:
                continue
            build(pipeline, folder).wait()
        else:
            # it was faster, because it went on from a kill or the machine has less to do: this kill must still come
            moments.insert(0, draw.uniform(LEAST_SECONDS, time.monotonic() - started))
        ends.append(digests(folder / "dataset") == wanted)
        shutil.rmtree(folder)
        folder, start = scratch / str(len(ends)), 0
    return kills, ends


def build(pipeline: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a build in a process group of its own; dataset, home and what it says lie in folder."""
    folder.mkdir(exist_ok=True)
    words = ["build", str(pipeline), "--out", str(folder / "dataset"), "--home", str(folder / "home")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *words], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )


def killed(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Kill a build with all its processes after some seconds; False when it ended by itself before."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True
    return False


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder; empty when there is none."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def what_is_there(folder: Path) -> str:
    """What a killed build left, in words."""
    work = next((folder / "home" / "data").glob("*/lock"), None)
    if work is None:
        return "nothing"
    names = {name: [path.name for path in (work.parent / name).glob("*")] for name in ("surveys", "packs", "parts")}
    counts = [f"{len(found)} {name}" for name, found in names.items() if found]
    store = work.parent / "store-1.db"
    size = f"store {store.stat().st_size / 1e6:.1f} MB" if store.exists() else ""
    stages = "+".join(sorted(path.name.split("-")[0] for path in (work.parent / "stages").glob("*")))
    new = "half a dataset" if any(folder.glob(".dataset.new.*")) else ""
    old = "dataset" if (folder / "dataset").exists() else ""
    return ", ".join(filter(None, [f"stage {stages}" if stages else "", *counts, size, new, old])) or "a lock"


def table(kills: Sequence[Kill]) -> str:
    lines = ["| kill | seconds | start | what was there |", "|---|---|---|---|"]
    lines += [f"| {n} | {kill.seconds:.1f} | {kill.start} | {kill.there} |" for n, kill in enumerate(kills, 1)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
