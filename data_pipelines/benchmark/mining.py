"""From a repository to a folder of executed tasks: export, baseline, screening function by function, suite."""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.baseline import Baseline, take_baseline
from data_pipelines.benchmark.body_task import body_task, label_functions, label_name
from data_pipelines.benchmark.exported import export_tree
from data_pipelines.benchmark.functions import Function, find_functions, is_test_file
from data_pipelines.benchmark.quick import Quick
from data_pipelines.benchmark.screen import Screen, Screened, time_allowed
from data_pipelines.benchmark.screening import Screening, Work
from data_pipelines.benchmark.suite_folder import check_target, write_suite
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.executed import ExecutedSuite
from finetune.contracts.io import digest_json, digest_text, read_model, sole_writer, write_json
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.progress import Progress

# raise it when what is screened or how changes: work kept from before is then done again
VERSION = "3"
HINT = "Remove that folder, then type the same again."


@dataclass(frozen=True, slots=True)
class Mined:
    """A finished suite. screened counts functions judged in this run, kept_from_before those of the journal.

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


def mine_tasks(
    repository: Repository, python: Path, out: Path, *, limit: int | None, jobs: int, dataset: Path | None = None
) -> Mined:
    """Mine body tasks of the repository's commit into out, which is replaced only on success.

    limit: tasks at most, None for all. dataset labels them by what training on it sees, None leaves them unlabelled.
    Raises InputError when no test passes, or out holds something else.
    """
    began = time.monotonic()
    check_target(out)
    if dataset is not None:
        read_manifest(dataset)
    jail, runner = Jail.open(), RUNNERS["pytest"]
    toolchain = runner.toolchain(python)
    key = digest_json([VERSION, repository.name, repository.commit, toolchain.model_dump(mode="json")])[:16]
    work = Work(out.absolute().with_name(f".{out.name}.mining") / key)
    work.folder.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another process mines into {out} right now.", "Wait for it, or name another folder.")
    with sole_writer(work.folder / "lock", busy):
        left = _exported(repository, work)
        baseline = _baseline(work, lambda: take_baseline(runner, toolchain, jail=jail, tree=work.tree))
        left.update({("baseline", reason): count for reason, count in baseline.left_out})
        functions = _functions(work.tree, left)
        allowed = min(REPOSITORY_TESTS.timeout_seconds, time_allowed(baseline.seconds))
        screening = Screening(
            screen=Screen(jail, runner, toolchain, work.tree, allowed),
            quick=Quick(jail, toolchain, work.tree, baseline.modules, baseline.seconds),
            functions=functions,
            tests=baseline.tests_of(),
        )
        judged = screening.run(work, limit=limit, jobs=jobs)
        screened = judged.screened
        chosen = choose(functions, screened, left=left, limit=limit)
        labels = label_functions(repository, {name: functions[name] for name in chosen}, dataset)
        tasks = [
            body_task(
                repository,
                functions[name],
                screened[name],
                language="python",
                weak=functions[name].weak,
                label=labels.of.get(name),
            )
            for name in chosen
        ]
        seconds = time.monotonic() - began
        suite = write_suite(
            out,
            tasks,
            trees={repository.commit[:12]: work.tree},
            toolchain=toolchain,
            left=left,
            seconds=seconds,
            labels_of=labels.dataset_digest,
        )
    return Mined(
        suite=suite,
        labels=Counter(label_name(task) for task in tasks),
        num_functions=len(functions),
        screened=judged.fresh,
        tested=judged.tested,
        kept_from_before=len(screened) - judged.fresh,
        screening_minutes=judged.seconds / 60,
        minutes=seconds / 60,
        infrastructure=sum(count for (stage, _), count in left.items() if stage == "infrastructure"),
    )


Left = Counter[tuple[str, str]]


def choose(functions: Collection[str], screened: Mapping[str, Screened], *, left: Left, limit: int | None) -> list[str]:
    """The functions that become tasks: the first limit in the order of digests, whatever was judged beside them.

    Each other function is counted in left by reason.
    """
    chosen: list[str] = []
    for name in sorted(functions, key=digest_text):
        one = screened.get(name)
        if one is None:
            left["screen", "not screened: --limit was reached"] += 1
        elif one.broken or one.reason:
            left["infrastructure" if one.broken else "screen", one.broken[:120] or one.reason] += 1
        elif limit is not None and len(chosen) >= limit:
            left["screen", "kept by screening, beyond --limit"] += 1
        else:
            chosen.append(name)
    return chosen


def _exported(repository: Repository, work: Work) -> Left:
    """Export once; how many entries were left out is kept beside."""
    kept = work.folder / "exported.json"
    if not kept.is_file():
        write_json(kept, dict(export_tree(repository, work.tree)))
    return Counter({("export", reason): count for reason, count in json.loads(kept.read_text()).items()})


def _baseline(work: Work, take: Callable[[], Baseline]) -> Baseline:
    kept = work.folder / "baseline.json"
    if not kept.is_file():
        with Progress("Running the tests as they are, four times", None):
            write_json(kept, take())
    return read_model(kept, Baseline, error=DatasetError, hint=HINT)


def _functions(tree: Path, left: Left) -> dict[str, Function]:
    """Functions by a name that is the same each time, in the order of their files."""
    found: dict[str, Function] = {}
    for place in sorted(tree.rglob("*.py")):
        path = place.relative_to(tree).as_posix()
        if is_test_file(path):
            left["functions", "Python file that serves tests"] += 1
            continue
        try:
            text = place.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            left["functions", "Python file that is no UTF-8"] += 1
            continue
        functions, reasons = find_functions(path, text)
        left.update({("functions", reason): count for reason, count in reasons.items()})
        found.update({f"{path}:{one.first_line}:{one.name}": one for one in functions})
    return found
