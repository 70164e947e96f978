"""From a repository in JavaScript, Go or Java to a folder of executed tasks, by whole runs of its tests."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.benchmark.bodies import find_bodies
from data_pipelines.benchmark.body_task import body_task, label_functions, label_name
from data_pipelines.benchmark.exported import export_tree
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.journal import Journal
from data_pipelines.benchmark.languages.base import MinedLanguage
from data_pipelines.benchmark.mining import HINT, Left, choose
from data_pipelines.benchmark.screening import enough
from data_pipelines.benchmark.suite_folder import check_target, write_suite
from data_pipelines.benchmark.whole_runs import ScreenedBody, SteadyTests, WholeRuns, steady_tests
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.executed import ExecutedSuite
from finetune.contracts.io import digest_json, digest_text, read_model, sole_writer, write_json
from finetune.execution.jail import Jail
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.output import printable, table
from finetune.terminal.progress import Progress

# raise it when what is screened or how changes: work kept from before is then done again
VERSION = "1"


@dataclass(frozen=True, slots=True)
class MinedBodies:
    """A finished suite. screened counts functions judged in this run, kept_from_before those of the journal."""

    suite: ExecutedSuite
    labels: Mapping[str, int]
    num_functions: int
    screened: int
    kept_from_before: int
    minutes: float

    def document(self, out: Path) -> dict[str, Any]:
        """What a program reads of it."""
        return {
            "path": str(out),
            "labels": dict(self.labels),
            "functions": self.num_functions,
            "screened": self.screened,
            "kept_from_before": self.kept_from_before,
            "minutes": round(self.minutes, 2),
            **self.suite.model_dump(mode="json"),
        }

    def text(self, out: Path) -> str:
        """What a person reads of it."""
        rows = [[one.stage, printable(one.reason), f"{one.count:,}"] for one in self.suite.left_out]
        lines = [
            f"{self.suite.num_tasks:,} tasks of {self.num_functions:,} functions are in {out}.",
            f"Judged now: {self.screened:,}; judged before: {self.kept_from_before:,}; {self.minutes:.1f} minutes.",
            *(["", "Left out:", table(rows, header=("stage", "reason", "count"))] if rows else []),
        ]
        if any(one.stage == "infrastructure" for one in self.suite.left_out):
            lines.append("What could not be tested, the same command again tries again.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Work:
    """The folder beside the suite that holds what a killed run leaves to the next one."""

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def export(self, repository: Repository) -> Left:
        """Export once; how many entries were left out is kept beside."""
        kept = self.folder / "exported.json"
        if not kept.is_file():
            write_json(kept, dict(export_tree(repository, self.tree)))
        return Counter({("export", reason): count for reason, count in json.loads(kept.read_text()).items()})

    def steady(self, runs: "_Tests") -> SteadyTests:
        """Run the tests as they are once for all starts."""
        kept = self.folder / "steady.json"
        if not kept.is_file():
            with Progress("Running the tests as they are, three times", None):
                write_json(kept, runs.steady(self.tree))
        return read_model(kept, SteadyTests, error=DatasetError, hint=HINT)


class _Tests:
    """The jail, a runner and its toolchain."""

    def __init__(self, language: MinedLanguage, program: Path | None) -> None:
        self.jail, self.runner = Jail.open(), RUNNERS[language.runner]
        self.toolchain = self.runner.toolchain(program)

    def steady(self, tree: Path) -> SteadyTests:
        return steady_tests(self.runner, self.toolchain, jail=self.jail, tree=tree)

    def with_bodies(self, tree: Path, steady: SteadyTests) -> WholeRuns:
        return WholeRuns(self.jail, self.runner, self.toolchain, tree, frozenset(steady.names), steady.seconds)


def mine_bodies(
    repository: Repository,
    language: MinedLanguage,
    out: Path,
    *,
    program: Path | None,
    limit: int | None,
    jobs: int,
    dataset: Path | None = None,
) -> MinedBodies:
    """Mine body tasks of the repository's commit into out, which is replaced only on success.

    program runs the tests, None: the system's. limit: tasks at most, None for all. dataset labels them by what training
    on it sees, None leaves them unlabelled. Raises InputError when no test passes, or out holds something else.
    """
    began = time.monotonic()
    check_target(out)
    if dataset is not None:
        read_manifest(dataset)
    tests = _Tests(language, program)
    told = tests.toolchain.model_dump(mode="json")
    key = digest_json([VERSION, language.name, repository.name, repository.commit, told])[:16]
    work = _Work(out.absolute().with_name(f".{out.name}.mining") / key)
    work.folder.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another process mines into {out} right now.", "Wait for it, or name another folder.")
    with sole_writer(work.folder / "lock", busy):
        left = work.export(repository)
        steady = work.steady(tests)
        left.update({("baseline", reason): count for reason, count in steady.left_out})
        functions = _functions(work.tree, language, left)
        runs = tests.with_bodies(work.tree, steady)
        journal = Journal(work.folder / "functions.jsonl", ScreenedBody)
        screened, fresh = _screen_all(runs, functions, journal=journal, limit=limit, jobs=jobs)
        names = choose(functions, screened, left=left, limit=limit)
        labels = label_functions(repository, {name: functions[name] for name in names}, dataset)
        tasks = [
            body_task(
                repository,
                functions[name],
                screened[name],
                language=language.name,
                weak=screened[name].weak,
                label=labels.of.get(name),
            )
            for name in names
        ]
        seconds = time.monotonic() - began
        trees = {repository.commit[:12]: work.tree}
        suite = write_suite(
            out,
            tasks,
            trees=trees,
            toolchain=tests.toolchain,
            left=left,
            seconds=seconds,
            labels_of=labels.dataset_digest,
        )
    return MinedBodies(
        suite=suite,
        labels=Counter(label_name(task) for task in tasks),
        num_functions=len(functions),
        screened=fresh,
        kept_from_before=len(screened) - fresh,
        minutes=seconds / 60,
    )


def _functions(tree: Path, language: MinedLanguage, left: Left) -> dict[str, Function]:
    """Functions by a name that is the same each time, in the order of their files."""
    found: dict[str, Function] = {}
    for place in sorted(tree.rglob("*")):
        path = place.relative_to(tree).as_posix()
        if not place.is_file() or not path.endswith(language.suffixes):
            continue
        if language.serves_tests(path) or not language.holds(path):
            left["functions", "a file that serves tests or is not the repository's own"] += 1
            continue
        try:
            text = place.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            left["functions", "a file that is no UTF-8"] += 1
            continue
        functions, reasons = find_bodies(path, text, language)
        left.update({("functions", reason): count for reason, count in reasons.items()})
        found.update({f"{path}:{one.first_line}:{one.name}": one for one in functions})
    return found


def _screen_all(
    runs: WholeRuns,
    functions: Mapping[str, Function],
    *,
    journal: Journal[ScreenedBody],
    limit: int | None,
    jobs: int,
) -> tuple[dict[str, ScreenedBody], int]:
    """What came of each function, and how many were judged now; in an order that digests decide."""
    done = {one.function: one for one in journal.finished() if one.function in functions}
    waiting = sorted((name for name in functions if name not in done), key=digest_text, reverse=True)
    kept = {name for name, one in done.items() if not one.reason}
    before = len(done)
    running: set[Future[ScreenedBody]] = set()
    with (
        journal.writing() as stream,
        Progress("Screening functions", len(functions), start_at=before) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        try:
            while running or (waiting and not enough(kept, waiting[-1], limit=limit)):
                while waiting and len(running) < jobs and not enough(kept, waiting[-1], limit=limit):
                    name = waiting.pop()
                    running.add(pool.submit(runs.screen, functions[name], name))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for one in (future.result() for future in ended):
                    done[one.function] = one
                    if not one.broken:  # the infrastructure's failures are tried again
                        stream.write(one.model_dump_json() + "\n")
                        stream.flush()
                    if not (one.reason or one.broken):
                        kept.add(one.function)
                    progress.advance(detail=f"{len(kept):,} tasks")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done, len(done) - before
