"""Answers are graded by the repository's own tests in the jail; the same answer to the same task is run once."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError, PlatformError
from finetune.contracts.executed import FileText
from finetune.contracts.io import digest_json, read_model, write_json
from finetune.evaluate.executed.answer import files_of, gold_answer
from finetune.evaluate.executed.chosen import ChosenTask
from finetune.evaluate.executed.scripted import wrong_answer
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.base import TestRun
from finetune.execution.runners.registry import RUNNERS

NAMES_SHOWN = 3
# a repository may have a test that fails now and then
CONTROLS = 3
CACHE_HINT = "Delete it; the answer is graded again."


class Grade(Contract):
    """How an answer did. in_form: it could be read as an answer at all; share: of fail_to_pass, the part that passes.

    passed: each test of fail_to_pass and of pass_to_pass passes. broken: the tests could not be run, and why; such a
    grade says nothing of the answer.
    """

    passed: bool = False
    in_form: bool = True
    share: float = Field(default=0.0, ge=0, le=1)
    note: str = ""
    broken: str = ""


RunTests = Callable[[ChosenTask, Sequence[FileText], Sequence[str]], TestRun]


@dataclass(frozen=True, slots=True)
class Grader:
    """Grades by run_tests, and keeps grades in the folder cache. Threads may share one."""

    run_tests: RunTests
    cache: Path

    def grade(self, chosen: ChosenTask, answer: str) -> Grade:
        """The grade of an answer, from the cache where the files that it makes were graded before."""
        try:
            files = files_of(answer, chosen.task, form=chosen.prompt.form, before=chosen.before)
        except ValueError as reason:
            return Grade(in_form=False, note=f"no answer in the form that was asked for: {reason}")
        path = self._path(chosen, files)
        if path.is_file():
            return read_model(path, Grade, error=InputError, hint=CACHE_HINT)
        found = self.run(chosen, files)
        if not found.broken:
            write_json(path, found)
        return found

    def run(self, chosen: ChosenTask, files: Sequence[FileText]) -> Grade:
        """The grade of these files, run now; a run that broke is tried once more."""
        found = self._run(chosen, files)
        return self._run(chosen, files) if found.broken else found

    def _run(self, chosen: ChosenTask, files: Sequence[FileText]) -> Grade:
        task = chosen.task
        try:
            covering = self.run_tests(chosen, files, task.fail_to_pass)
            missed = _missed(covering, task.fail_to_pass)
            share = 1 - len(missed) / len(task.fail_to_pass)
            if covering.broken or missed or not task.pass_to_pass:
                return Grade(passed=not missed, share=share, note=_note(missed), broken=covering.broken)
            others = self.run_tests(chosen, files, task.pass_to_pass)
        except PlatformError as error:
            return Grade(broken=str(error))
        broke = _missed(others, task.pass_to_pass)
        return Grade(passed=not broke, share=share, note=_note(broke, kept=True), broken=others.broken)

    def _path(self, chosen: ChosenTask, files: Sequence[FileText]) -> Path:
        key = digest_json(
            [
                chosen.task.model_dump(mode="json"),
                chosen.toolchain.model_dump(mode="json"),
                [file.model_dump(mode="json") for file in files],
            ]
        )
        return self.cache / key[:2] / f"{key}.json"


def jail_tests(jail: Jail) -> RunTests:
    """Run tests in the jail: the answer's files and then the suite's test files over the tree."""

    def run(chosen: ChosenTask, files: Sequence[FileText], tests: Sequence[str]) -> TestRun:
        overlay = {
            file.path: None if file.text is None else file.text.encode("utf-8") for file in (*files, *chosen.task.tests)
        }
        return RUNNERS[chosen.toolchain.runner].run(
            jail,
            chosen.toolchain,
            tree=chosen.tree,
            overlay=overlay,
            tests=tests,
            limits=replace(REPOSITORY_TESTS, timeout_seconds=chosen.task.timeout_seconds),
        )

    return run


def num_jobs() -> int:
    """Tests that run at once: one on each core that this process may use."""
    return len(os.sched_getaffinity(0))


def check_grading(grader: Grader, tasks: Sequence[ChosenTask]) -> None:
    """Grade the author's text and a wrong answer at tasks of each repository, before any model is asked.

    One task of CONTROLS at which the first passes and the second fails is enough. Raises MachineError for a repository
    without such a task: what is counted then would be this machine.
    """
    by_repo: defaultdict[str, list[ChosenTask]] = defaultdict(list)
    for chosen in tasks:
        by_repo[chosen.task.repo].append(chosen)
    for repo, of_repo in by_repo.items():
        wrong = ""
        for chosen in of_repo[:CONTROLS]:
            wrong = _what_is_wrong(grader, chosen)
            if not wrong:
                break
        if wrong:
            raise MachineError(
                f"The tests of {repo} do not do here what they did when the tasks were mined: {wrong}.",
                "Mine them again on this machine: finetune data tasks",
            )


def _what_is_wrong(grader: Grader, chosen: ChosenTask) -> str:
    """Why grades of a task cannot be trusted; "" if they can."""
    right = grader.run(chosen, _files(chosen, gold_answer(chosen.task, form=chosen.prompt.form, before=chosen.before)))
    if right.broken or not right.passed:
        return right.broken or f"at task {chosen.task.id} the author's own text {right.note}"
    wrong = grader.run(chosen, _files(chosen, wrong_answer(chosen.task, chosen.before)))
    if wrong.broken or wrong.passed:
        return wrong.broken or f"at task {chosen.task.id} an answer that does nothing passes"
    return ""


def _files(chosen: ChosenTask, answer: str | None) -> tuple[FileText, ...]:
    """The files of an answer of ours; none for one that has no form, which leaves the tree as it is."""
    return files_of(answer, chosen.task, form=chosen.prompt.form, before=chosen.before) if answer else ()


def _missed(run: TestRun, wanted: Sequence[str]) -> list[str]:
    """Tests that did not pass; one that did not run is among them."""
    return [name for name in wanted if run.outcomes.get(name) != "passed"]


def _note(missed: Sequence[str], *, kept: bool = False) -> str:
    if not missed:
        return "passed"
    names = ", ".join(missed[:NAMES_SHOWN]) + (" ..." if len(missed) > NAMES_SHOWN else "")
    return f"{'broke' if kept else 'failed'} {len(missed)}: {names}"
