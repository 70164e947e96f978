"""The same reading, filtering and MinHash, here and in datatrove, on the same input in one run.

python bench/peer_pipeline.py PLACE... [--max-mb 60] [--history]

A place is a repository or a plain folder. Its texts go into one Parquet file, which each side then reads in a process
of its own with one worker: read, leave out by size, line lengths and share of letters, sign 5-grams with 256 hashes in
32 buckets of 8, find and cluster twins, count what is left. Start of Python and imports are not counted.

datatrove runs its own ParquetReader, LambdaFilter, MinhashDedupSignature, Buckets, Cluster and Filter in its local
executor. What is set for it is the cheapest that works offline: words split at white space instead of its spaCy model,
xxhash of UTF-8 (it hands text to xxhash, which from version 4 on takes bytes alone), no documents written. It joins
whatever shares a bucket; here every pair is compared exactly first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from code_texts import texts_of

from data_pipelines.config import FilterSection
from data_pipelines.dedup.clusters import NearTable
from data_pipelines.dedup.minhash import NUM_BANDS, ROWS_PER_BAND, bands_of
from data_pipelines.dedup.shingles import LENGTH
from data_pipelines.document import Handle
from data_pipelines.filters.size import shape_reason, size_reason
from data_pipelines.spool import Spool

MB = 1_000_000
DOCUMENTS_AT_ONCE = 1000
THRESHOLD = 0.7
SIDES = ("datatrove", "finetune")
SECTION = FilterSection()


def main() -> int:
    arguments = parser().parse_args()
    if arguments.side:
        print(json.dumps({"datatrove": peer, "finetune": ours}[arguments.side](arguments.places[0])))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "input" / "texts.parquet"
        source.parent.mkdir()
        megabytes, texts = write_texts(source, arguments)
        if not texts:
            sys.stderr.write("No UTF-8 file of a usual size there. Give another folder or repository.\n")
            return 1
        found = {side: run(side, source) for side in SIDES}
    print(f"{megabytes:.1f} MB in {texts:,} texts, one worker each\n")
    print(table(found, megabytes))
    ratio = found["datatrove"]["cpu"] / found["finetune"]["cpu"]
    print(f"\nCPU-seconds of datatrove over those of finetune: {ratio:.1f}")
    return 0 if ratio >= 1 else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("places", nargs="+", type=Path)
    made.add_argument("--max-mb", type=int, default=60)
    made.add_argument("--history", action="store_true", help="also what the files of a repository were before")
    made.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return made


def write_texts(target: Path, arguments: argparse.Namespace) -> tuple[float, int]:
    """Texts up to max-mb into a Parquet file of an id and a text; how many megabytes and texts they are."""
    texts: list[str] = []
    room = arguments.max_mb * MB
    for place in arguments.places:
        for content in texts_of(place, history=arguments.history):
            if len(content) > room:
                break
            room -= len(content)
            texts.append(content.decode("utf-8"))
    columns = {"id": [str(number) for number in range(len(texts))], "text": texts}
    pq.write_table(pa.table(columns), target, row_group_size=DOCUMENTS_AT_ONCE)
    return arguments.max_mb - room / MB, len(texts)


def run(side: str, source: Path) -> dict[str, float]:
    """What one side measured in a process of its own, one thread per library."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, __file__, "--side", side, str(source)]
    child = subprocess.run(words, env=environment, capture_output=True, check=False)
    if child.returncode != 0:
        # datatrove logs every step there, which matters only when one failed
        sys.stderr.write(child.stderr.decode("utf-8", "replace"))
        raise SystemExit(f"{side} failed with exit code {child.returncode}.")
    measured: dict[str, float] = json.loads(child.stdout)
    return measured


class Clock:
    """CPU-seconds of this process by stage, and both clocks over all."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._wall, self._start = time.perf_counter(), time.process_time()
        self._last = self._start

    def stage(self, name: str) -> None:
        """What was spent since the last call went into this stage."""
        now = time.process_time()
        self.stages[name] = now - self._last
        self._last = now

    def result(self, *, kept: int, after_filters: int) -> dict[str, float]:
        return {
            **self.stages,
            "cpu": self._last - self._start,
            "wall": time.perf_counter() - self._wall,
            "after filters": after_filters,
            "kept": kept,
            "peak MiB": peak_mib(),
        }


def peak_mib() -> float:
    """The largest resident set of this process; ru_maxrss would begin with that of the one which started it."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def usual(text: str) -> bool:
    return size_reason(len(text.encode()), SECTION) is None and shape_reason(text, SECTION) is None


def ours(source: Path) -> dict[str, float]:
    """Each text once through filters and signatures into a spool; clusters read from it what they compare."""
    clock = Clock()
    handles: list[Handle] = []
    with Spool(source.parent / "spool") as spool, NearTable(source.parent / "near.sqlite") as near:
        for text in texts_in(source):
            if usual(text):
                content = text.encode()
                near.add(len(handles), bands_of(content))
                handles.append(spool.append(content))
        clock.stage("read, filter, sign")
        found = near.clusters(lambda unit: spool.read(handles[unit]), threshold=THRESHOLD)
        clock.stage("pairs and clusters")
        kept = sum(one == head for one, head in zip(found.units.tolist(), found.representatives.tolist(), strict=True))
        clock.stage("leave out twins")
    return clock.result(kept=kept, after_filters=len(handles))


def texts_in(source: Path) -> Iterator[str]:
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=DOCUMENTS_AT_ONCE, columns=["text"]):
            yield from batch.column(0).to_pylist()


def peer(source: Path) -> dict[str, float]:
    """datatrove's four steps of MinHash, the first and the last behind its reader and filter."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import ParquetReader

    config = MinhashConfig(n_grams=LENGTH, num_buckets=NUM_BANDS, hashes_per_bucket=ROWS_PER_BAND)
    folder = source.parent.parent
    signatures, pairs, twins = (str(folder / name) for name in ("signatures", "pairs", "twins"))

    def read() -> list[object]:
        reader = ParquetReader(str(source.parent), glob_pattern="*.parquet", batch_size=DOCUMENTS_AT_ONCE)
        return [reader, LambdaFilter(lambda document: usual(document.text))]

    def execute(name: str, *steps: object, tasks: int = 1) -> object:
        logs = str(folder / "logs" / name)
        return LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=logs).run()

    sign = MinhashDedupSignature(signatures, config, language=split_at_space())
    sign._hash_func = xxhash_of_text()
    clock = Clock()
    execute("sign", *read(), sign)
    clock.stage("read, filter, sign")
    execute("buckets", MinhashDedupBuckets(signatures, pairs, config=config), tasks=NUM_BANDS)
    execute("cluster", MinhashDedupCluster(pairs, twins, config))
    clock.stage("pairs and clusters")
    stats = execute("filter", *read(), MinhashDedupFilter(twins))
    clock.stage("leave out twins")
    counts = [step.stats for step in stats.stats]
    return clock.result(kept=counts[-1]["forwarded"].total, after_filters=counts[-1]["total"].total)


def split_at_space() -> object:
    from datatrove.utils.word_tokenizers import WordTokenizer

    class SplitAtSpace(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    return SplitAtSpace()


def xxhash_of_text() -> Callable[[str], int]:
    import xxhash

    return lambda text: xxhash.xxh64_intdigest(text.encode())


def table(found: dict[str, dict[str, float]], megabytes: float) -> str:
    lines = [("", *SIDES), ("---", "--:", "--:")]
    for name in found[SIDES[0]]:
        cells = [found[side][name] for side in SIDES]
        if name in ("after filters", "kept", "peak MiB"):
            lines.append((name, *(f"{cell:,.0f}" for cell in cells)))
        else:
            lines.append((f"{name}, s", *(f"{cell:.2f}" for cell in cells)))
    lines.append(("MB per CPU-second", *(f"{megabytes / found[side]['cpu']:.1f}" for side in SIDES)))
    lines.append(("CPU-seconds per MB", *(f"{found[side]['cpu'] / megabytes:.3f}" for side in SIDES)))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
