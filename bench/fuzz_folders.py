"""Datasets, runs and adapters that were damaged, through the commands that look at them.

One file of a copy is torn, changed, taken away or put in place of something else; each command must end as
bench/fuzz_files.py asks. Run: .venv/bin/python -m bench.fuzz_folders DATASET HOME [--number 200] [--seed 0]
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from bench.fuzz_files import Findings, WriteWatch, in_process
from bench.mangle import BYTE_WAYS, other, put_wrong_values

# of what is larger, such as the weights of a base, a copy for each try would take long
MAX_FILE_BYTES = 16 << 20


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in one way, which is told."""
    if draw.random() < 0.25:
        return _replace(path, draw)
    content = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.7:
        values = json.loads(content)
        put_wrong_values(values, draw)
        path.write_text(json.dumps(values), encoding="utf-8", errors="surrogatepass")
        return "values"
    if path.suffix == ".parquet" and draw.random() < 0.5:
        return _other_columns(path, draw)
    way = draw.choice((*BYTE_WAYS, other))
    path.write_bytes(way(content, draw))
    return way.__name__


def _replace(path: Path, draw: random.Random) -> str:
    path.unlink()
    way = draw.choice(("gone", "pipe", "device", "loop", "folder", "passwd"))
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way != "gone":
        path.symlink_to({"device": "/dev/zero", "loop": str(path), "passwd": "/etc/passwd"}[way])
    return way


def _other_columns(path: Path, draw: random.Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = draw.choice(table.column_names)
    place = table.column_names.index(name)
    way = draw.choice(("dropped", "numbers", "empty", "null"))
    columns = {"numbers": pa.array(range(len(table))), "null": pa.nulls(len(table))}
    if way == "empty":
        table = table.slice(0, 0)
    else:
        table = table.remove_column(place)
        if way in columns:
            table = table.add_column(place, name, columns[way])
    pq.write_table(table, path)
    return f"{name} {way}"


def commands(dataset: Path, home: Path) -> list[list[str]]:
    """Command lines that look at a dataset, or at what a home holds."""
    at_home = ["--home", str(home)]
    adapters = [path.name for path in sorted((home / "adapters").glob("[!.]*"))]
    runs = [path.name for path in sorted((home / "runs").glob("[!.]*"))]
    return [
        ["data", "stats", str(dataset)],
        ["data", "inspect", str(dataset), "--limit", "50"],
        ["data", "inspect", str(dataset), "--dropped"],
        ["data", "trace", str(dataset), "--path", "*", *at_home],
        ["data", "trace", str(dataset), *at_home],
        ["data", "report", str(dataset)],
        ["runs", "list", *at_home],
        ["adapter", "list", *at_home],
        *(["adapter", "inspect", adapter, *at_home] for adapter in adapters),
        *(["train", "--resume", run, "--dry-run", "--jail", "off", *at_home] for run in runs),
    ]


def fuzz(dataset: Path, home: Path, *, scratch: Path, number: int, seed: int) -> Findings:
    """So many copies of a dataset and a home below scratch, of each one file damaged, which is what is looked at."""
    draw = random.Random(seed)
    findings = Findings()
    here = {"dataset": scratch / "dataset", "home": scratch / "home"}
    for count in range(number):
        for kind, source in (("dataset", dataset), ("home", home)):
            shutil.rmtree(here[kind], ignore_errors=True)
            shutil.copytree(source, here[kind], symlinks=True)
        lines = commands(here["dataset"], here["home"])
        kind = draw.choice(("dataset", "home"))
        files = [path for path in sorted(here[kind].rglob("*")) if path.is_file() and not path.is_symlink()]
        file = draw.choice([path for path in files if path.stat().st_size < MAX_FILE_BYTES])
        done = f"{count} {file.relative_to(scratch)} {damage(file, draw)}"
        words = draw.choice([line for line in lines if (line[0] == "data") == (kind == "dataset")])
        # what is missed first may be another file than the damaged one
        findings.add(kind, done, here[kind], in_process(words))
    return findings


def main() -> None:
    """Print the exit codes and what should not have been; exit code 1 when there is something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp()).resolve()
    tempfile.tempdir = str(scratch)
    with WriteWatch(scratch) as watch:
        dataset, home = options.dataset.resolve(), options.home.resolve()
        found = fuzz(dataset, home, scratch=scratch, number=options.number, seed=options.seed)
    print({f"{kind} {code}": count for (kind, code), count in sorted(found.codes.items(), key=str)})
    print("\n".join([*found.problems, *watch.found]) or "nothing that should not be")
    shutil.rmtree(scratch)
    sys.exit(bool(found.problems or watch.found))


if __name__ == "__main__":
    main()
