"""The suite of functions that were judged, whatever their language."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.body_task import body_task, label_functions, label_name
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import INFRASTRUCTURE, Left, choose
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.screening import Spent
from data_pipelines.benchmark.suite_folder import write_suite
from data_pipelines.sources.git import Repository
from finetune.contracts.executed import ExecutedSuite, Toolchain
from finetune.contracts.io import digest_text


@dataclass(frozen=True, slots=True)
class Mined:
    """A finished suite. screened counts functions judged in this run, kept_from_before those of an earlier one.

    tested are those screened that took runs of tests; no test enters the others. screening_minutes: of judging alone,
    without the runs of all tests before it. labels counts tasks by what training knew of them.
    """

    suite: ExecutedSuite
    labels: Mapping[str, int]
    num_functions: int
    screened: int
    tested: int
    kept_from_before: int
    screening_minutes: float
    minutes: float
    infrastructure: int


@dataclass(frozen=True, slots=True)
class Bodies:
    """A repository's functions by name, where its tree lies, what runs its tests, and what was left out so far."""

    repository: Repository
    language: str
    toolchain: Toolchain
    tree: Path
    functions: Mapping[str, Function]
    left: Left

    def record(self, journal: Path, limit: int | None) -> Record:
        """The record of judging them, in an order that digests decide."""
        return Record(journal, sorted(self.functions, key=digest_text), limit=limit)

    def write(self, out: Path, record: Record, *, spent: Spent, began: float, dataset: Path | None) -> Mined:
        """Write the tasks that record keeps to out. began: when mining did, by the monotonic clock."""
        chosen = choose(list(record.places), record.done, left=self.left, limit=record.limit)
        labels = label_functions(self.repository, {name: self.functions[name] for name in chosen}, dataset)
        tasks = [
            body_task(
                self.repository,
                self.functions[name],
                record.done[name],
                language=self.language,
                label=labels.of.get(name),
            )
            for name in chosen
        ]
        seconds = time.monotonic() - began
        suite = write_suite(
            out,
            tasks,
            trees={self.repository.commit[:12]: self.tree},
            toolchain=self.toolchain,
            left=self.left,
            seconds=seconds,
            labels_of=labels.dataset_digest,
        )
        return Mined(
            suite=suite,
            labels=Counter(label_name(task) for task in tasks),
            num_functions=len(self.functions),
            screened=record.num_fresh,
            tested=spent.tested,
            kept_from_before=record.num_before,
            screening_minutes=spent.seconds / 60,
            minutes=seconds / 60,
            infrastructure=sum(count for (stage, _), count in self.left.items() if stage == INFRASTRUCTURE),
        )


def functions_below(
    tree: Path,
    suffixes: tuple[str, ...],
    *,
    left_out: Callable[[str], str],
    find: Callable[[str, str], tuple[list[Function], Counter[str]]],
    left: Left,
) -> dict[str, Function]:
    """Functions by a name that is the same each time, in the order of their files, which end in suffixes.

    left_out tells of a path why its functions are none, or "". find takes a file's path and text; left counts what it
    left out.
    """
    found: dict[str, Function] = {}
    for place in sorted(tree.rglob("*")):
        path = place.relative_to(tree).as_posix()
        if not path.endswith(suffixes) or not place.is_file():
            continue
        reason = left_out(path)
        if reason:
            left["functions", reason] += 1
            continue
        try:
            text = place.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            left["functions", "a file that is no UTF-8"] += 1
            continue
        functions, reasons = find(path, text)
        left.update({("functions", reason): count for reason, count in reasons.items()})
        found.update({f"{path}:{one.first_line}:{one.name}": one for one in functions})
    return found
