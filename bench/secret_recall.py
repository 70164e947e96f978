"""How many planted secrets the redactor takes out, by kind, as a Markdown table; with --files, what it hits in code.

python bench/secret_recall.py [--seed 1] [--draws 2]
python bench/secret_recall.py --files FOLDER... [--sample 60] [--max-lines 1000000]

Planted secrets are those of tests/unit/data_pipelines/redact/planted.py: a secret counts as found when no piece of it
is left in the text. --files counts hits by rule per line of code, and prints a seeded sample of them to judge by eye.
"""

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from python_code import python_files

from data_pipelines.config import RedactSection
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor
from data_pipelines.redact.scanner import Scanner

ROOT = Path(__file__).resolve().parents[1]
PLANTED = ROOT / "tests/unit/data_pipelines/redact"


def main() -> int:
    arguments = parser().parse_args()
    if arguments.files:
        report_hits(arguments)
    else:
        report_recall(arguments)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--draws", type=int, default=2, help="secrets per kind and file type; passwords four times that")
    made.add_argument("--show-missed", action="store_true", help="print the lines that were missed")
    made.add_argument("--files", nargs="+", type=Path, help="folders of Python code to count hits in")
    made.add_argument("--sample", type=int, default=0, help="print so many hits, drawn with the seed")
    made.add_argument("--skip-rule", nargs="*", default=[], help="leave hits of these rules out of the sample")
    made.add_argument("--max-lines", type=int, default=1_000_000)
    return made


def report_recall(arguments: argparse.Namespace) -> None:
    # the generator lies with the tests
    sys.path.insert(0, str(PLANTED))
    import planted

    redactor = Redactor(RedactSection(), b"benchmark key, 32 bytes long ...")
    items = [
        *planted.tokens(arguments.seed, draws=arguments.draws),
        *planted.passwords(arguments.seed, draws=4 * arguments.draws),
    ]
    total: Counter[tuple[bool, str]] = Counter()
    found: Counter[tuple[bool, str]] = Counter()
    for item in items:
        text = redactor.redact(item.text, form_of(item.path)).text
        key = (item.is_password, item.kind if item.claimed else f"{item.kind} (not claimed)")
        total[key] += 1
        if any(piece in text for piece in item.pieces):
            if arguments.show_missed:
                sys.stderr.write(f"{item.kind} | {item.file_type} | {item.text!r}\n")
        else:
            found[key] += 1
    print("| kind | planted | found | recall |\n| --- | --: | --: | --: |")
    for is_password, title in ((False, "token kinds"), (True, "passwords that a person chose")):
        keys = [key for key in total if key[0] == is_password]
        for key in keys:
            print(row(key[1], total[key], found[key]))
        print(row(f"**all {title}**", sum(total[key] for key in keys), sum(found[key] for key in keys)))
    print(f"\n{len(items):,} secrets of {len(total)} kinds in {len({item.file_type for item in items})} file types")


def row(name: str, total: int, found: int) -> str:
    return f"| {name} | {total:,} | {found:,} | {found / total:.1%} |"


def report_hits(arguments: argparse.Namespace) -> None:
    section = RedactSection()
    scanner = Scanner(section, default_pack(), People())
    hits: Counter[str] = Counter()
    shown: list[str] = []
    lines = 0
    for path, content in (file for folder in arguments.files for file in python_files(folder, arguments.seed)):
        if lines >= arguments.max_lines:
            break
        lines += content.count(b"\n")
        for item in scanner.find(content, Form.CODE):
            hits[item.rule] += 1
            if item.rule in arguments.skip_rule:
                continue
            line = content[content.rfind(b"\n", 0, item.start) + 1 : item.end + 30].split(b"\n")[0][:160]
            shown.append(f"{item.rule} | {path.name} | {line.decode(errors='replace').strip()}")
    print("| rule | hits | per 5,000 lines |\n| --- | --: | --: |")
    for rule, count in hits.most_common():
        print(f"| {rule} | {count:,} | {5_000 * count / lines:.3f} |")
    print(f"| **all** | {sum(hits.values()):,} | {5_000 * sum(hits.values()) / lines:.3f} |\n\n{lines:,} lines")
    random.Random(arguments.seed).shuffle(shown)
    for text in shown[: arguments.sample]:
        print("   ", text)


if __name__ == "__main__":
    sys.exit(main())
