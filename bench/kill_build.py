"""Kill a build of a repository again and again, let it end, and compare what it gave with an undisturbed build.

python bench/kill_build.py REPOSITORY [--times 20] [--seed 0] [--workers 2] [--scratch DIR]

Moments are spread over the whole duration of an undisturbed build and shuffled. Each kill is SIGKILL to the whole
process group. After a kill the build is started again in the same work folder: to its end, or to the next kill. Where
it ended, everything in the dataset's folder is compared byte for byte, and the next build begins with nothing.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kills import kill_all, table

ROOT = Path(__file__).resolve().parents[1]
RUN = "import sys; from data_pipelines.cli import app; app(args=sys.argv[1:], prog_name='finetune data')"


@dataclass(frozen=True, slots=True)
class Build:
    """Builds by a pipeline's file; wanted are the digests of an undisturbed one's files."""

    pipeline: Path
    wanted: dict[str, str]

    def killed(self, folder: Path, seconds: float) -> bool:
        return killed(build(self.pipeline, folder), seconds)

    def finish(self, folder: Path) -> None:
        build(self.pipeline, folder).wait()

    def ended(self, folder: Path) -> bool:
        """A build that has ended is begun again by the same command."""
        return False

    def there(self, folder: Path) -> str:
        return what_is_there(folder)

    def undisturbed(self, folder: Path) -> bool:
        return digests(folder / "dataset") == self.wanted


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
    kills, ends = kill_all(
        Build(pipeline, wanted), scratch, duration=duration, times=arguments.times, seed=arguments.seed
    )
    print(table(kills))
    print(
        f"\n{len(kills)} kills in builds of {duration:.1f} s; {sum(ends)} of {len(ends)} that ended are as undisturbed"
    )
    return 0 if all(ends) else 1


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
    size = "".join(f"store {store.stat().st_size / 1e6:.1f} MB" for store in work.parent.glob("store-*.db"))
    stages = "+".join(sorted(path.name.split("-")[0] for path in (work.parent / "stages").glob("*")))
    new = "half a dataset" if any(folder.glob(".dataset.new.*")) else ""
    old = "dataset" if (folder / "dataset").exists() else ""
    return ", ".join(filter(None, [f"stage {stages}" if stages else "", *counts, size, new, old])) or "a lock"


if __name__ == "__main__":
    sys.exit(main())
