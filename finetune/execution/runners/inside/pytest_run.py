"""Runs pytest in the jail and reports each test. Called as: python pytest_run.py REQUEST.json

Must run on every Python that repositories still use (3.8). Nothing of the tree can be imported before "started" is
said: the tree's folders come onto the path after that.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Report:
    """Says JSON lines behind the word of this run."""

    def __init__(self, stream: Any, word: str) -> None:
        self.stream = stream
        self.word = word

    def say(self, **entry: Any) -> None:
        self.stream.write(self.word + " " + json.dumps(entry) + "\n")


sys.path.pop(0)
# the report has the true stdout; what pytest and the tests print is the log. Its word comes with the request
REPORT = Report(os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"), "")
os.dup2(2, 1)


def read_request(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as stream:
        request: dict[str, Any] = json.load(stream)
        return request


class Reporter:
    """A pytest plugin: keeps the tests that were asked for, says how each ended."""

    def __init__(self, report: Report, tests: list[str]) -> None:
        self.say = report.say
        self.tests = tests
        self.names = frozenset(tests)
        self.ended: dict[str, str] = {}

    def wanted(self, name: str) -> bool:
        if not self.tests or name in self.names:
            return True
        return any(name.startswith((test + "::", test + "[", test + "/")) for test in self.tests)

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        kept = [item for item in items if self.wanted(item.nodeid)]
        left = [item for item in items if not self.wanted(item.nodeid)]
        if left:
            config.hook.pytest_deselected(items=left)
        items[:] = kept

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.say(id=report.nodeid, outcome="error")

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = report.outcome
        if report.when != "call" and outcome == "failed":
            outcome = "error"
        # set-up and tear-down count when they went wrong or skipped the test
        if report.when == "call" or outcome != "passed":
            self.ended[report.nodeid] = outcome
        if report.when == "teardown" and report.nodeid in self.ended:
            self.say(id=report.nodeid, outcome=self.ended.pop(report.nodeid))


def installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def arguments(request: dict[str, Any]) -> tuple[list[str], bool]:
    words = ["-q", "--tb=line", "--rootdir=/repo", "--continue-on-collection-errors", "-o", "cache_dir=/tmp/cache"]
    words += ["-n", "0"] if installed("xdist") else []
    words += ["--no-cov"] if installed("pytest_cov") else []
    words += ["-p", "no:randomly"]
    words += ["-x"] if request["stop"] else []
    files = dict.fromkeys(test.split("::")[0] for test in request["tests"])
    return words + [name for name in files if os.path.exists(name)], bool(files)


def run(request: dict[str, Any], report: Report) -> int:
    """Run what request asks for in this process, and tell report."""
    import pytest

    reporter = Reporter(report, request["tests"])
    version = f"Python {sys.version.split()[0]}, pytest {pytest.__version__}"
    words, named = arguments(request)
    report.say(started=version)
    if named and not any(os.path.exists(test.split("::")[0]) for test in request["tests"]):
        code = 4
    else:
        sys.path[:0] = request["paths"]
        os.environ["PYTHONPATH"] = os.pathsep.join(request["paths"])
        sys.argv[:] = ["pytest"]
        code = pytest.main(words, plugins=[reporter])
    report.say(finished=str(int(code)), processor_seconds=processor_seconds())
    return int(code)


def processor_seconds() -> float:
    """Of this process and of those it waited for, in which benchmarks are interested."""
    return sum(os.times()[:4])


def main() -> int:
    request = read_request(sys.argv[1])
    REPORT.word = request["word"]
    return run(request, REPORT)


if __name__ == "__main__":
    code = main()
    if len(sys._current_frames()) == 1:
        # all is told; taking every module apart would cost a tenth of a run. Another thread is waited for, as ever
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
