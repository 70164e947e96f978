"""From a Python repository to a folder of executed tasks: export, baseline, screening function by function, suite."""

import time
from pathlib import Path

from data_pipelines.benchmark.baseline import Baseline, take_baseline
from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.body_suite import Bodies, Mined, functions_below
from data_pipelines.benchmark.functions import Function, find_functions, is_test_file
from data_pipelines.benchmark.judgement import Left
from data_pipelines.benchmark.quick import Quick
from data_pipelines.benchmark.screen import Screen, time_allowed
from data_pipelines.benchmark.screening import Screening
from data_pipelines.benchmark.suite_folder import check_target
from data_pipelines.benchmark.work import work_beside
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.registry import RUNNERS

# raise it when what is screened or how changes: work kept from before is then done again
VERSION = "5"


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
    told = toolchain.model_dump(mode="json")
    with work_beside(out, VERSION, repository.name, repository.commit, told) as work:
        left, tree = work.export(repository), work.tree
        baseline = work.baseline(
            Baseline,
            lambda: take_baseline(runner, toolchain, jail=jail, tree=tree),
            title="Running the tests as they are, four times",
        )
        left.update({("baseline", reason): count for reason, count in baseline.left_out})
        bodies = Bodies(repository, "python", toolchain, tree, python_functions(tree, left), left)
        allowed = min(REPOSITORY_TESTS.timeout_seconds, time_allowed(baseline.seconds))
        screening = Screening(
            screen=Screen(BodyRuns(jail, runner, toolchain, tree, allowed)),
            quick=Quick(jail, toolchain, tree, baseline.modules),
            functions=bodies.functions,
            tests=baseline.tests_of(),
        )
        record = bodies.record(work.journal, limit)
        spent = screening.run(record, jobs=jobs)
        return bodies.write(out, record, spent=spent, began=began, dataset=dataset)


def python_functions(tree: Path, left: Left) -> dict[str, Function]:
    """As functions_below, in Python."""

    def left_out(path: str) -> str:
        return "Python file that serves tests" if is_test_file(path) else ""

    return functions_below(tree, (".py",), left_out=left_out, find=find_functions, left=left)
