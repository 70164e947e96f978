"""Every runner by its name."""

from collections.abc import Mapping

from finetune.execution.runners.base import Runner
from finetune.execution.runners.go import GoRunner
from finetune.execution.runners.java import JavaRunner
from finetune.execution.runners.javascript import JavaScriptRunner
from finetune.execution.runners.pytest import PytestRunner

_ALL: tuple[Runner, ...] = (PytestRunner(), JavaScriptRunner(), GoRunner(), JavaRunner())
RUNNERS: Mapping[str, Runner] = {runner.name: runner for runner in _ALL}
