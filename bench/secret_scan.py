"""Megabytes of UTF-8 code per CPU-second through the scan for secrets, as it runs in a build.

python bench/secret_scan.py [FOLDER...] [--max-mb 60] [--rules]

Without folders: the standard library and the site-packages of this interpreter, half each. Time is that of the process
(user and system) around the scans alone, with 1,000 authors; texts are read before.
--rules shows what each rule costs by itself.
"""

import argparse
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

from python_code import python_files

from data_pipelines.config import RedactSection
from data_pipelines.redact.form import Form
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.people import People
from data_pipelines.redact.scanner import Scanner

MB = 1_000_000
NUM_RUNS = 3
NUM_AUTHORS = 1_000


def main() -> int:
    arguments = parser().parse_args()
    folders = arguments.folders or [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    texts = [text for folder in folders for text in texts_of(folder, arguments.max_mb * MB // len(folders))]
    megabytes = sum(map(len, texts)) / MB
    scanner = Scanner(RedactSection(), default_pack(), people(NUM_AUTHORS))
    seconds = sorted(seconds_of(scanner, texts) for _ in range(NUM_RUNS))
    print(f"{megabytes:.1f} MB in {len(texts):,} files, {NUM_RUNS} runs, CPU-seconds {seconds}")
    print(f"{megabytes / seconds[NUM_RUNS // 2]:.1f} MB per CPU-second (median)")
    if arguments.rules:
        by_rule(texts)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folders", nargs="*", type=Path)
    made.add_argument("--max-mb", type=int, default=60)
    made.add_argument("--rules", action="store_true")
    return made


def texts_of(folder: Path, max_bytes: int) -> list[bytes]:
    """Files in a seeded order, as many as fit into max_bytes."""
    texts: list[bytes] = []
    size = 0
    for _, content in python_files(folder, seed=0):
        if size + len(content) <= max_bytes:
            texts.append(content)
            size += len(content)
    return texts


def people(number: int) -> People:
    """Made-up authors, as many as the history of a large repository has."""
    found = People()
    for index in range(number):
        first, last = (
            f"{start}{chr(97 + index % 26)}{chr(97 + index // 26 % 26)}{chr(97 + index // 676)}"
            for start in ("Tarim", "Oslevic")
        )
        found.add_person(f"{first} {last}", f"{first}.{last}@corp.internal".lower())
    return found


def seconds_of(scanner: Scanner, texts: list[bytes]) -> float:
    started = time.process_time()
    for text in texts:
        scanner.find(text, Form.CODE)
    return round(time.process_time() - started, 2)


def by_rule(texts: list[bytes]) -> None:
    pack = default_pack()
    seconds: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for text in texts:
        started = time.process_time()
        rules = pack.rules_for(text, Form.CODE)
        seconds["(keywords)"] += time.process_time() - started
        for rule in rules:
            started = time.process_time()
            list(rule.pattern.finditer(text))
            seconds[rule.id] += time.process_time() - started
            tried[rule.id] += 1
    print("\n| rule | files tried | CPU-seconds |\n| --- | --: | --: |")
    for name, value in seconds.most_common():
        print(f"| {name} | {tried[name] or len(texts):,} | {value:.3f} |")


if __name__ == "__main__":
    sys.exit(main())
