"""Grade the grading: the author's text, stubs, and two scripts in a model's place, at real folders of tasks.

python bench/oracle.py TASKS...

For each folder: does the author's text pass at every task, do all stubs fail, does a script that answers as the author
did score exactly 1, and one that is always wrong exactly 0, through the prompts, cuts and grades of an evaluation?
Exit status 1 if not.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.commits import cosmetic_part
from finetune.contracts.executed import FileText
from finetune.evaluate.executed.answer import hole_of
from finetune.evaluate.executed.answering import Answering
from finetune.evaluate.executed.chosen import ChosenTask, choose_tasks
from finetune.evaluate.executed.grade import Grader, jail_tests, num_jobs
from finetune.evaluate.executed.scripted import AlwaysWrong, Oracle
from finetune.evaluate.executed.suite import PASSED, PASSED_SEEN, executed_suite
from finetune.evaluate.suite import Measured, Subject
from finetune.execution.jail import Jail
from finetune.families.registry import family_for
from finetune.model.loading import load_tokenizer
from finetune.recipe.resolve import base_folder
from finetune.recipe.schema import EMBEDDED_BASE, EvaluateSection
from finetune.render.rows import Renderer
from finetune.terminal.output import table
from finetune.terminal.progress import Progress

# nothing is generated, so nothing need be left out for its length
SECTION = EvaluateSection(executed_tasks=1_000_000, executed_new_tokens=16_384, batch_rows=64)
MAX_TOKENS = 200_000


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one folder. Shares are means of pass@1; seconds of the oracle's grading, on all cores."""

    name: str
    num_tasks: int
    gold_passed: int
    num_stubs: int
    stubs_failed: int
    oracle: float
    wrong: float
    broken: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all of it is as it must be."""
        whole = self.gold_passed == self.num_tasks and self.stubs_failed == self.num_stubs
        return whole and (self.oracle, self.wrong, self.broken) == (1.0, 0.0, 0)


def measure(folder: Path, renderer: Renderer, scratch: Path) -> Row:
    """Grade one folder; grades are kept in scratch, apart for each way, so that nothing is taken over."""
    chosen = choose_tasks([folder], renderer, SECTION)
    for count in chosen.left_out:
        print(f"{folder.name}: {count.count} x {count.reason}", file=sys.stderr)
    grader = Grader(jail_tests(Jail.open()), scratch / "direct")
    gold = graded(grader, [(one, gold_files(one)) for one in chosen.tasks], f"{folder.name}, gold")
    stubs = [(one, files) for one in chosen.tasks for files in weak_answers(one)]
    failed = graded(grader, stubs, f"{folder.name}, stubs")
    started = time.monotonic()
    oracle = asked(folder, renderer, Oracle(chosen.tasks), scratch / "oracle")
    seconds = time.monotonic() - started
    wrong = asked(folder, renderer, AlwaysWrong(chosen.tasks), scratch / "wrong")
    return Row(
        name=folder.name,
        num_tasks=len(chosen.tasks),
        gold_passed=sum(gold),
        num_stubs=len(stubs),
        stubs_failed=sum(not passed for passed in failed),
        oracle=mean(oracle),
        wrong=mean(wrong),
        broken=sum(bool(one.broken) for one in (*oracle, *wrong)),
        seconds=seconds,
    )


def gold_files(one: ChosenTask) -> Sequence[FileText]:
    """The author's text, put there without any answer."""
    return one.task.gold if one.task.kind == "commit" else stub_files(one, one.task.gold[0].text or "")


def weak_answers(one: ChosenTask) -> Sequence[Sequence[FileText]]:
    """What must not pass: stubs of a body; of a commit nothing, and the comments and white space of its change."""
    if one.task.kind == "body":
        return [stub_files(one, text) for text in one.task.weak]
    form = [
        FileText(path=file.path, text=cosmetic_part(one.before[file.path], file.text or "")) for file in one.task.gold
    ]
    return [(), form] if any(file.text != one.before[file.path] for file in form) else [()]


def stub_files(one: ChosenTask, text: str) -> Sequence[FileText]:
    """Lines in place of those of a body."""
    hole = hole_of(one.before[one.task.path], one.task)
    before = hole.before[: len(hole.before) - len(hole.indent)]
    return [FileText(path=one.task.path, text=before + text.rstrip("\n") + hole.after)]


def graded(grader: Grader, work: Sequence[tuple[ChosenTask, Sequence[FileText]]], label: str) -> list[bool]:
    """Whether the files of each pass."""
    found = []
    with Progress(label, len(work)) as bar, ThreadPoolExecutor(num_jobs()) as pool:
        for grade, (one, _) in zip(pool.map(lambda each: grader.run(*each), work), work, strict=True):
            if grade.broken:
                bar.tell(f"{one.task.id}: broken: {grade.broken[:300]}")
            found.append(grade.passed)
            bar.advance()
    return found


def asked(folder: Path, renderer: Renderer, answering: Answering, cache: Path) -> list[Measured]:
    """What a script in a model's place comes to."""
    suite = executed_suite([folder], renderer, SECTION, cache=cache, answering=answering)
    found: list[Measured] = []
    with Progress(f"{folder.name}, {type(answering).__name__}", len(suite.tasks)) as bar:

        def told(measured: Measured) -> None:
            found.append(measured)
            bar.advance()

        suite.measure(Subject("base", None), [task.id for task in suite.tasks], told=told)
    return found


def mean(found: Sequence[Measured]) -> float:
    """pass@1 over seen and unseen tasks."""
    values = [one.values.get(PASSED.name, one.values.get(PASSED_SEEN.name)) for one in found if not one.broken]
    return sum(value for value in values if value is not None) / len(values) if values else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    folders = parser.parse_args().folders
    base = base_folder(EMBEDDED_BASE)
    tokenizer = load_tokenizer(base)
    renderer = Renderer(tokenizer, family_for("qwen3_5_text").for_tokenizer(tokenizer), MAX_TOKENS)
    rows = []
    for folder in folders:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(measure(folder, renderer, Path(scratch)))
    header = ("tasks of", "tasks", "gold passes", "stubs fail", "oracle", "always wrong", "broken", "oracle graded in")
    cells = [
        (
            row.name,
            str(row.num_tasks),
            f"{row.gold_passed} of {row.num_tasks}",
            f"{row.stubs_failed} of {row.num_stubs}",
            f"{row.oracle:.3f}",
            f"{row.wrong:.3f}",
            str(row.broken),
            f"{row.seconds:.0f} s",
        )
        for row in rows
    ]
    print(table(cells, header=header))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
