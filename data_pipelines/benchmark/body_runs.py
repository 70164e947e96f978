"""A repository's tests with one body at a time replaced, each run as an evaluation grades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.benchmark.functions import Function
from data_pipelines.benchmark.judgement import BrokenError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import REPOSITORY_TESTS, Jail
from finetune.execution.runners.base import Runner, TestRun


@dataclass(frozen=True, slots=True)
class BodyRuns:
    """Runs tests of a tree in the jail. timeout_seconds: for each run. Threads may share it."""

    jail: Jail
    runner: Runner
    toolchain: Toolchain
    tree: Path
    timeout_seconds: float = REPOSITORY_TESTS.timeout_seconds

    def run(self, function: Function, body: str | None, tests: Sequence[str] = (), *, stop: bool = False) -> TestRun:
        """Run tests, all if none, with body in place; None: as the author wrote it. stop: at the first that fails.

        Raises BrokenError.
        """
        overlay: Mapping[str, bytes | None] = {}
        if body is not None:
            text = (self.tree / function.path).read_bytes().decode("utf-8")
            overlay = {function.path: function.replaced(text, body).encode("utf-8")}
        run = self.runner.run(
            self.jail,
            self.toolchain,
            tree=self.tree,
            overlay=overlay,
            tests=tests,
            limits=replace(REPOSITORY_TESTS, timeout_seconds=self.timeout_seconds),
            stop_at_first_failure=stop,
        )
        if run.broken:
            raise BrokenError(run.broken)
        return run
