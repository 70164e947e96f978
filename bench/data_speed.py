"""What a build costs the first time, when nothing changed, and after one commit in one of the repositories.

python bench/data_speed.py FOLDER_OF_MIRRORS [--workers N] [--scratch DIR] [--only NAME,NAME]

The repositories are cloned (sharing their objects) so that a commit can be added. CPU seconds are those of all
processes of a build, git's among them, sampled ten times a second; memory is the largest resident set of the parent
and of any worker. MB are those of the different texts that are kept: files and both sides of edits, each text once.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
RUN = "import sys; from data_pipelines.cli import app; app(args=sys.argv[1:], prog_name='finetune data')"
SAMPLE_SECONDS = 0.1
WHO = (("NAME", "Bench"), ("EMAIL", "bench@example.com"))
COMMITTER = {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in WHO}
CODE = b'''"""Weights of parcels."""


def total(parcels):
    """Sum the weights of all parcels."""
    return sum(parcel.weight for parcel in parcels)
'''


def main() -> int:
    arguments = parser().parse_args()
    scratch = Path(tempfile.mkdtemp(dir=arguments.scratch))
    try:
        clones = clone_all(
            arguments.mirrors, scratch / "clones", only=arguments.only.split(",") if arguments.only else []
        )
        pipeline = scratch / "pipeline.yaml"
        pipeline.write_text(f"sources:\n  - mirrors: {scratch / 'clones'}\nrun:\n  workers: {arguments.workers}\n")
        rows = [measure("first build", pipeline, scratch)]
        megabytes = text_bytes(scratch) / 1e6
        rows.append(measure("nothing changed", pipeline, scratch))
        add_commit(clones[len(clones) // 2])
        rows.append(measure(f"one commit in one of {len(clones)}", pipeline, scratch))
        print(table(rows, megabytes))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("mirrors", type=Path, help="a folder that holds repositories")
    made.add_argument("--workers", type=int, default=0, help="processes; 0 is one per core")
    made.add_argument(
        "--scratch", type=Path, help="where to work; the system's folder for temporary files if not given"
    )
    made.add_argument("--only", default="", help="names of folders of repositories, to leave out the others")
    return made


def clone_all(mirrors: Path, target: Path, *, only: list[str]) -> list[Path]:
    """Clones of all repositories below a folder, named by their folders."""
    target.mkdir(parents=True)
    found = sorted(
        {path.parent for path in mirrors.glob("*/HEAD")} | {path.parent for path in mirrors.glob("*/*/HEAD")}
    )
    clones = []
    for path in found:
        name = (path.parent.name if path.name == "repo" else path.name).removesuffix(".git")
        if only and name not in only:
            continue
        clone = target / f"{name}.git"
        subprocess.run(["git", "clone", "-q", "--bare", "--shared", str(path), str(clone)], check=True)
        clones.append(clone)
    return clones


def add_commit(clone: Path) -> None:
    """A commit that adds one small module, on top of HEAD."""

    def git(*words: str, text: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-C", str(clone), *words],
            input=text,
            capture_output=True,
            check=True,
            env={**os.environ, **COMMITTER},
        )
        return done.stdout.decode().strip()

    blob = git("hash-object", "-w", "--stdin", text=CODE)
    listing = git("ls-tree", "HEAD").encode() + f"\n100644 blob {blob}\tbench_parcels.py\n".encode()
    tree = git("mktree", "--missing", text=listing)
    commit = git("commit-tree", tree, "-p", "HEAD", "-m", "Add the weights of parcels")
    git("update-ref", "HEAD", commit)


def measure(name: str, pipeline: Path, scratch: Path) -> dict[str, object]:
    """One build in a process of its own."""
    words = ["build", str(pipeline), "--out", str(scratch / "dataset"), "--home", str(scratch / "home")]
    started = time.perf_counter()
    child = psutil.Popen([sys.executable, "-c", RUN, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds: dict[int, float] = {}
    peaks: dict[int, int] = {}
    while child.poll() is None:
        for process in (child, *children(child)):
            try:
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
                peaks[process.pid] = max(peaks.get(process.pid, 0), process.memory_info().rss)
            except psutil.Error:
                continue
        time.sleep(SAMPLE_SECONDS)
    if child.returncode != 0:
        raise SystemExit(f"{name}: the build failed")
    parent = peaks.pop(child.pid)
    return {
        "name": name,
        "wall": time.perf_counter() - started,
        "cpu": sum(seconds.values()),
        "parent": parent / 1e6,
        "worker": max(peaks.values(), default=0) / 1e6,
    }


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def text_bytes(scratch: Path) -> int:
    """Bytes of the different texts in the store of the only dataset there."""
    (store,) = (scratch / "home" / "data").glob("*/store-*.db")
    with sqlite3.connect(store) as base:
        return int(base.execute("SELECT sum(length) FROM text").fetchone()[0])


def table(rows: list[dict[str, object]], megabytes: float) -> str:
    first = rows[0]
    lines = [
        f"{megabytes:.0f} MB of different texts",
        "| build | wall s | CPU s | MB per CPU-s | of the first, CPU | of the first, wall | parent MB | worker MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        rate = f"{megabytes / row['cpu']:.2f}" if row is first else ""
        lines.append(
            f"| {row['name']} | {row['wall']:.1f} | {row['cpu']:.1f} | {rate} | {row['cpu'] / first['cpu']:.1%} "
            f"| {row['wall'] / first['wall']:.1%} | {row['parent']:.0f} | {row['worker']:.0f} |"
        )
    return "\n".join([*lines, json.dumps(rows)])


if __name__ == "__main__":
    sys.exit(main())
