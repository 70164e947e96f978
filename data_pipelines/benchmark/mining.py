"""From a repository to a folder of executed tasks: export, baseline, screening function by function, suite."""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.baseline import Baseline, take_baseline
from data_pipelines.benchmark.exported import export_tree
from data_pipelines.benchmark.functions import Function, find_functions, is_test_file
from data_pipelines.benchmark.journal import Journal
from data_pipelines.benchmark.screen import Screen, Screened
from data_pipelines.benchmark.suite_folder import check_target, write_suite
from data_pipelines.sources.git import Repository
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.executed import ExecutedSuite, ExecutedTask, FileText
from finetune.contracts.io import digest_json, digest_text, read_model, sole_writer, write_json
from finetune.execution.jail import Jail
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.progress import Progress

# raise it when what is screened or how changes: work kept from before is then done again
VERSION = "2"
HINT = "Remove that folder, then type the same again."


@dataclass(frozen=True, slots=True)
class Mined:
    """A finished suite. screened counts functions judged in this run, kept_from_before those of the journal."""

    suite: ExecutedSuite
    num_functions: int
    screened: int
    kept_from_before: int
    minutes: float
    infrastructure: int


@dataclass(frozen=True, slots=True)
class Work:
    """The folder beside the suite that holds what a killed run leaves to the next one."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The commit's files."""
        return self.folder / "tree"

    @property
    def journal(self) -> Journal[Screened]:
        """Functions judged so far."""
        return Journal(self.folder / "functions.jsonl", Screened)


def mine_tasks(repository: Repository, python: Path, out: Path, *, limit: int | None, jobs: int) -> Mined:
    """Mine body tasks of the repository's commit into out, which is replaced only on success.

    limit: tasks at most, None for all. Raises InputError when no test passes, or out holds something else.
    """
    began = time.monotonic()
    check_target(out)
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
        screen = Screen(jail, runner, toolchain, work.tree)
        screened, fresh = _screen_all(screen, functions, baseline=baseline, work=work, limit=limit, jobs=jobs)
        chosen = choose(functions, screened, left=left, limit=limit)
        tasks = [_task(repository, functions[name], screened[name]) for name in chosen]
        seconds = time.monotonic() - began
        trees = {repository.commit[:12]: work.tree}
        suite = write_suite(out, tasks, trees=trees, toolchain=toolchain, left=left, seconds=seconds)
    return Mined(
        suite=suite,
        num_functions=len(functions),
        screened=fresh,
        kept_from_before=len(screened) - fresh,
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


def enough(kept: Collection[str], following: str, *, limit: int | None) -> bool:
    """Whether limit functions are kept of those ahead of following, the next one to be judged.

    Those behind it do not count: a killed run leaves gaps, and what fills them decides which functions come first.
    """
    return limit is not None and sum(digest_text(name) < digest_text(following) for name in kept) >= limit


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


def _screen_all(
    screen: Screen, functions: Mapping[str, Function], *, baseline: Baseline, work: Work, limit: int | None, jobs: int
) -> tuple[dict[str, Screened], int]:
    """What came of each function, and how many were judged now; in an order that digests decide."""
    done = {one.function: one for one in work.journal.finished() if one.function in functions}
    waiting = sorted((name for name in functions if name not in done), key=digest_text, reverse=True)
    tests = baseline.tests_of()
    kept = {name for name, one in done.items() if not one.reason}
    fresh = 0
    with (
        work.journal.writing() as stream,
        Progress("Screening functions", len(functions), start_at=len(done)) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):

        def judge(name: str) -> Screened:
            function = functions[name]
            return screen.screen(function, name, tests=tests.get((function.path, function.start), ()))

        running: set[Future[Screened]] = set()
        try:
            while running or (waiting and not enough(kept, waiting[-1], limit=limit)):
                while waiting and len(running) < 2 * jobs and not enough(kept, waiting[-1], limit=limit):
                    running.add(pool.submit(judge, waiting.pop()))
                future = next(as_completed(running))
                running.remove(future)
                one = future.result()
                done[one.function] = one
                if not one.broken:  # the infrastructure's failures are tried again
                    stream.write(one.model_dump_json() + "\n")
                    stream.flush()
                fresh += 1
                if not (one.reason or one.broken):
                    kept.add(one.function)
                progress.advance(detail=f"{len(kept):,} tasks")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done, fresh


def _task(repository: Repository, function: Function, screened: Screened) -> ExecutedTask:
    span = f"{function.first_line}-{function.last_line}"
    return ExecutedTask(
        id=digest_text(f"{repository.name} {repository.commit} {function.path} {span}")[:16],
        kind="body",
        language="python",
        repo=repository.name,
        commit=repository.commit,
        path=function.path,
        cluster=f"{repository.name}:{function.path}",
        tree=repository.commit[:12],
        statement=f"Write the body of {function.name} in {function.path}, so that the repository's tests pass.",
        first_line=function.first_line,
        last_line=function.last_line,
        gold=(FileText(path=function.path, text=function.body),),
        weak=(function.stub, *function.weak),
        fail_to_pass=screened.fail_to_pass,
        pass_to_pass=screened.pass_to_pass,
        timeout_seconds=screened.timeout_seconds,
    )
