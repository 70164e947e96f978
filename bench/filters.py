"""Megabytes of files per CPU-second through the filters, and what they leave out, on the heads of repositories.

python bench/filters.py MIRRORS|REPO... [--reasons 30]

Time is that of the process (user and system) around contexts and verdicts alone; trees, histories and files are read
before.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.document import TreeEntry
from data_pipelines.filters.chain import FilterChain, Verdict
from data_pipelines.filters.paths import readable_path
from data_pipelines.filters.survey import main_authors, read_context
from data_pipelines.sources.git import Repository, open_repository
from data_pipelines.sources.listing import expand_sources

MB = 1_000_000


class Measured:
    """Sums over all repositories: seconds by step, bytes that by_text looked at, verdicts."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.verdicts: Counter[Verdict] = Counter()
        self.num_bytes = self.num_texts = 0

    def repository(self, repository: Repository, source: SourceSection) -> None:
        entries = repository.entries()
        names, changes = Counter[str](), Counter[bytes]()
        for commit in repository.commits():
            names[commit.name] += 1
            changes.update(change.path for change in commit.changes)
        contents = {entry.blob: repository.content(entry.blob, max_bytes=MB) for entry in entries if entry.bytes >= 0}

        def content(blob: str, *, max_bytes: int) -> bytes | None:
            return contents.get(blob)

        started = time.process_time()
        context = read_context(entries, content, source=source, authors=main_authors(names))
        self.seconds["context"] += time.process_time() - started
        chain = FilterChain(PipelineConfig())
        for entry in entries:
            path = readable_path(entry.path) or ""
            started = time.process_time()
            place = context.for_path(path, num_local_commits=max(0, changes[entry.path] - 1))
            verdict = chain.by_entry(entry, place)
            self.seconds["entry"] += time.process_time() - started
            self.verdicts[self.text(chain, entry, contents, place=place) if verdict.keeps else verdict] += 1

    def text(self, chain: FilterChain, entry: TreeEntry, contents: dict[str, bytes | None], *, place) -> Verdict:
        found = contents[entry.blob] or b""
        started = time.process_time()
        _, verdict = chain.by_text(readable_path(entry.path) or "", found, place)
        self.seconds["text"] += time.process_time() - started
        self.num_bytes += len(found)
        self.num_texts += 1
        return verdict


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", nargs="+", type=Path)
    made.add_argument("--reasons", type=int, default=30)
    arguments = made.parse_args()
    measured = Measured()
    for source in expand_sources([SourceSection(path=path) for path in arguments.paths]):
        with open_repository(source.path, name=source.name, ref=source.ref) as repository:
            measured.repository(repository, source)
    size, total = measured.num_bytes / MB, sum(measured.seconds.values())
    print(f"{sum(measured.verdicts.values()):,} files, {measured.num_texts:,} of them read: {size:.1f} MB")
    print(", ".join(f"{step} {seconds:.2f} s" for step, seconds in sorted(measured.seconds.items())))
    print(f"{size / total:.1f} MB per CPU-second in all, {size / measured.seconds['text']:.1f} for texts alone\n")
    print("| stage | reason | files |\n| --- | --- | --: |")
    for verdict, count in measured.verdicts.most_common(arguments.reasons):
        print(f"| {verdict.stage or 'kept'} | {verdict.reason} | {count:,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
