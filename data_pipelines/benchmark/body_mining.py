"""From a repository in JavaScript, Go or Java to a folder of executed tasks, by whole runs of its tests."""

import time
from functools import partial
from pathlib import Path

from data_pipelines.benchmark.bodies import find_bodies
from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.body_suite import Bodies, Mined, functions_below
from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import Left
from data_pipelines.benchmark.judging import OneByOne, judge_all
from data_pipelines.benchmark.languages.base import MinedLanguage
from data_pipelines.benchmark.screen import time_allowed
from data_pipelines.benchmark.screening import Spent
from data_pipelines.benchmark.steady import SteadyTests, steady_tests
from data_pipelines.benchmark.suite_folder import check_target
from data_pipelines.benchmark.whole_runs import WholeRuns
from data_pipelines.benchmark.work import work_beside
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository
from finetune.execution.jail import Jail
from finetune.execution.runners.registry import RUNNERS

# raise it when what is screened or how changes: work kept from before is then done again
VERSION = "2"


def mine_bodies(
    repository: Repository,
    language: MinedLanguage,
    out: Path,
    *,
    program: Path | None,
    limit: int | None,
    jobs: int,
    dataset: Path | None = None,
) -> Mined:
    """Mine body tasks of the repository's commit into out, which is replaced only on success.

    program runs the tests, None: the system's. limit: tasks at most, None for all. dataset labels them by what training
    on it sees, None leaves them unlabelled. Raises InputError when no test passes, or out holds something else.
    """
    began = time.monotonic()
    check_target(out)
    if dataset is not None:
        read_manifest(dataset)
    jail, runner = Jail.open(), RUNNERS[language.runner]
    toolchain = runner.toolchain(program)
    told = toolchain.model_dump(mode="json")
    with work_beside(out, VERSION, language.name, repository.name, repository.commit, told) as work:
        left, tree = work.export(repository), work.tree
        tests = work.baseline(
            SteadyTests,
            lambda: steady_tests(runner, toolchain, jail=jail, tree=tree),
            title="Running the tests as they are, three times",
        )
        left.update({("baseline", reason): count for reason, count in tests.left_out})
        bodies = Bodies(repository, language.name, toolchain, tree, _functions(tree, language, left), left)
        runs = BodyRuns(jail, runner, toolchain, tree, time_allowed(tests.seconds))
        screen = WholeRuns(runs, frozenset(tests.steady), tests.seconds)
        record = bodies.record(work.journal, limit)
        screening = time.monotonic()
        steps = OneByOne(record, lambda name: screen.screen(bodies.functions[name], name))
        judge_all(record, steps, title="Screening functions", jobs=jobs)
        spent = Spent(record.num_fresh, time.monotonic() - screening)
        return bodies.write(out, record, spent=spent, began=began, dataset=dataset)


def _functions(tree: Path, language: MinedLanguage, left: Left) -> dict[str, Function]:
    def left_out(path: str) -> str:
        own = language.holds(path) and not language.serves_tests(path)
        return "" if own else "a file that serves tests or is not the repository's own"

    find = partial(find_bodies, language=language)
    return functions_below(tree, language.suffixes, left_out=left_out, find=find, left=left)
