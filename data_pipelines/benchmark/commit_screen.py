"""A commit's tests before and after its change: which it makes pass, which pass all along, and whether that holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.benchmark.commits import Texts, Unfit
from data_pipelines.benchmark.screen import MAX_NAMED, time_allowed
from finetune.contracts.dataset import Contract
from finetune.contracts.executed import FileText, Toolchain
from finetune.contracts.io import digest_text
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.base import Runner, TestOutcome, TestRun

REPEATS = 3
# of a whole run; what grades later has the timeout that screening measured
WHOLE = replace(REPOSITORY_TESTS, timeout_seconds=1800.0, output_bytes=256 << 20, max_open_files=1024)
# pass_to_pass are from the files that the commit changed up to so many, then from all others
MAX_NEAR = 25


class JudgedCommit(Contract):
    """What came of a commit: reason "" and its tests, or why it is no task. broken: the infrastructure failed."""

    commit: str
    reason: str = ""
    broken: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    timeout_seconds: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether it is a task."""
        return not (self.reason or self.broken)


class BrokenError(Exception):
    """The tests could not be run."""


@dataclass(frozen=True, slots=True)
class CommitScreen:
    """Runs tests in the jail over the tree of a commit's parent. Threads may share it."""

    jail: Jail
    runner: Runner
    toolchain: Toolchain

    def judge(self, commit: str, texts: Texts, *, tree: Path) -> JudgedCommit:
        """Judge a commit by its tests in its parent's tree."""
        try:
            return _Judging(self, texts, tree).judged(commit)
        except Unfit as reason:
            return JudgedCommit(commit=commit, reason=str(reason))
        except BrokenError as broken:
            return JudgedCommit(commit=commit, broken=str(broken))


@dataclass(frozen=True, slots=True)
class _Judging:
    screen: CommitScreen
    texts: Texts
    tree: Path

    def judged(self, commit: str) -> JudgedCommit:
        before, after = self._near()
        failing = tuple(sorted(name for name in after if after[name] == "passed" and fails(before, name)))
        if not failing:
            raise Unfit("none of its tests fails before and passes after its change")
        kept = [name for name in after if before.get(name) == after[name] == "passed"]
        failing, passing, seconds = self._steady(failing, self._passing(kept))
        self._check_weak(failing)
        return JudgedCommit(
            commit=commit,
            fail_to_pass=failing,
            pass_to_pass=passing,
            timeout_seconds=time_allowed(seconds),
        )

    def _near(self) -> tuple[Mapping[str, TestOutcome], Mapping[str, TestOutcome]]:
        """How the tests of the files that the commit changed end before and after; first, since those are cheap."""
        files = [file.path for file in self.texts.tests if file.text is not None and file.path.endswith(".py")]
        before = self._run(files, ()).outcomes
        if before and all(outcome in ("passed", "skipped") for outcome in before.values()):
            raise Unfit("its tests pass without its change")
        after = self._run(files, self._gold()).outcomes
        if "passed" not in after.values():
            raise Unfit("the environment runs none of its tests")
        return before, after

    def _passing(self, kept: Sequence[str]) -> tuple[str, ...]:
        """Tests to keep: of those kept in the changed files, then of all others that pass before, by digest.

        Whether the others pass after is seen when they are run alone, so that the whole suite is run once.
        """
        files = {file.path for file in self.texts.tests}
        near = sorted(kept, key=digest_text)[:MAX_NEAR]
        whole = self._run((), ()).outcomes
        others = [name for name in whole if whole[name] == "passed" and name.partition("::")[0] not in files]
        if not near and not others:
            raise Unfit("no test passes before its change")
        return tuple(sorted([*near, *sorted(others, key=digest_text)][:MAX_NAMED]))

    def _steady(self, failing: Sequence[str], passing: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], float]:
        """Those that keep to it as they are graded, each kind alone: after three times, before once; seconds a run."""
        failing = failing[:MAX_NAMED]
        seconds = 0.0
        for _ in range(REPEATS):
            first, second = self._run(failing, self._gold()), self._run(passing, self._gold())
            failing = [name for name in failing if first.outcomes.get(name) == "passed"]
            passing = [name for name in passing if second.outcomes.get(name) == "passed"]
            seconds = max(seconds, first.seconds, second.seconds)
            if not failing or not passing:
                raise Unfit("its tests do not pass each time when they are run alone")
        nothing = self._run(failing, ()).outcomes
        failing = [name for name in failing if fails(nothing, name)]
        if not failing:
            raise Unfit("its tests pass now and then without its change")
        return tuple(failing), tuple(passing), seconds

    def _check_weak(self, failing: Sequence[str]) -> None:
        cosmetic = self.texts.cosmetic()
        if cosmetic and self._run(failing, cosmetic).passed(failing):
            raise Unfit("its tests pass with the comments and white space of its change alone")

    def _gold(self) -> tuple[FileText, ...]:
        return tuple(FileText(path=one.path, text=one.after) for one in self.texts.sources)

    def _run(self, tests: Sequence[str], files: Sequence[FileText]) -> TestRun:
        """tests (all if none) with the commit's test files and these files over the tree."""
        screen = self.screen
        run = screen.runner.run(
            screen.jail,
            screen.toolchain,
            tree=self.tree,
            overlay={
                file.path: None if file.text is None else file.text.encode("utf-8")
                for file in (*files, *self.texts.tests)
            },
            tests=tests,
            limits=WHOLE,
        )
        if run.broken:
            raise BrokenError(run.broken)
        return run


def fails(outcomes: Mapping[str, TestOutcome], name: str) -> bool:
    """Whether a test fails, or is not there since its file cannot be imported; one that is skipped does not."""
    return outcomes.get(name, "error") in ("failed", "error")
