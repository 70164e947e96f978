"""Build a dataset from each repository in a process of its own, and report what it gave and what it cost.

python bench/data_build.py ../requests ../flask.git [--out DIR] [--pipeline FILE.yaml] [--json]

Seconds are wall time of the whole child, start of Python included; memory is the largest resident set of the child
or of a git process that it started, as the kernel reports it (ru_maxrss).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from data_pipelines.sinks.target import read_manifest
from finetune.contracts.dataset import DatasetManifest, Split, Task

RUN = "import sys; from data_pipelines.cli import app; app(args=sys.argv[1:], prog_name='finetune data')"
ROOT = Path(__file__).resolve().parents[1]
HEADER = (
    "repository",
    "files",
    "commits",
    "kept files",
    *(str(task) for task in Task),
    "held out",
    "redacted",
    "seconds",
    "peak MB",
)


def main() -> int:
    arguments = parser().parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, repository in enumerate(arguments.repositories):
            out = (arguments.out or Path(scratch)) / f"{number}"
            row = measure(repository, out, arguments.pipeline)
            if row is None:
                return 1
            rows.append(row)
            sys.stderr.write(f"{repository}: {row['seconds']} s\n")
    print(json.dumps(rows, indent=2) if arguments.json else markdown(rows))
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("repositories", nargs="+", type=Path, help="clones or bare repositories")
    made.add_argument("--out", type=Path, help="keep the datasets under this folder")
    made.add_argument("--pipeline", type=Path, help="a pipeline file; its sources are replaced")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return made


def measure(repository: Path, out: Path, pipeline: Path | None) -> dict[str, object] | None:
    """One build; None when it failed, after its message went to stderr."""
    words = [
        "build",
        *([str(pipeline.resolve())] if pipeline else []),
        "--repo",
        str(repository.resolve()),
        "--out",
        str(out.resolve()),
    ]
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", RUN, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        return None
    return {"repository": name_of(repository), **figures(read_manifest(out), seconds, usage.ru_maxrss)}


def name_of(repository: Path) -> str:
    """The folder's name; of <owner>+<name>/repo the middle part."""
    folder = repository.resolve()
    return (folder.parent.name if folder.name == "repo" else folder.name).replace("+", "/").removesuffix(".git")


def figures(manifest: DatasetManifest, seconds: float, max_rss_kib: int) -> dict[str, object]:
    (source,) = manifest.sources
    tasks: Counter[str] = Counter()
    for row in manifest.counts:
        tasks[row.task] += row.examples
    return {
        "files": source.files,
        "commits": source.commits,
        "kept files": manifest.split.train_files + manifest.split.heldout_files,
        **{str(task): tasks[task] for task in Task},
        "held out": manifest.num_examples(Split.HELDOUT),
        "redacted": sum(row.count for row in manifest.redacted),
        "seconds": round(seconds, 1),
        "peak MB": round(max_rss_kib * 1024 / 1e6),
    }


def markdown(rows: list[dict[str, object]]) -> str:
    lines = [" | ".join(HEADER), " | ".join("---" if name == "repository" else "--:" for name in HEADER)]
    for row in rows:
        cells = [row[name] for name in HEADER]
        lines.append(" | ".join(f"{cell:,}" if isinstance(cell, int | float) else str(cell) for cell in cells))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
