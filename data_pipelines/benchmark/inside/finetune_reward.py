"""Runs a task's tests and writes the reward, in the container of a harness: python finetune_reward.py TESTS.json REWARD

The reward is 1 when each test of both lists passes, else 0. Must run on every Python that repositories still use (3.8).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest


class Outcomes:
    """A pytest plugin that keeps how each test ended."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.spoilt: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.outcome == "passed":
            self.passed.add(report.nodeid)
        elif report.outcome != "passed":
            self.spoilt.add(report.nodeid)


def main(tests_path: str, reward_path: str) -> int:
    with open(tests_path, encoding="utf-8") as stream:
        tests = json.load(stream)
    named = tests["fail_to_pass"] + tests["pass_to_pass"]
    files = [name for name in dict.fromkeys(test.split("::")[0] for test in named) if os.path.exists(name)]
    outcomes = Outcomes()
    words = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:randomly", "--continue-on-collection-errors"]
    pytest.main([*words, "--rootdir=" + os.getcwd(), *files], plugins=[outcomes])
    missed = [test for test in named if test not in outcomes.passed - outcomes.spoilt]
    sys.stdout.write(f"{len(named) - len(missed)} of {len(named)} tests pass; missed: {missed[:10]}\n")
    with open(reward_path, "w", encoding="utf-8") as stream:
        stream.write("0\n" if missed else "1\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
