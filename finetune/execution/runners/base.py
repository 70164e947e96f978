"""What a runner is, and how its program in the jail reports: a JSON line per test, behind a word of this run."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol

from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Jail, JailResult, Limits

TestOutcome = Literal["passed", "failed", "error", "skipped"]
# what counts of a test that is told more than once
WORST_FIRST: tuple[TestOutcome, ...] = ("failed", "error", "skipped", "passed")
OUTCOMES: frozenset[str] = frozenset({"passed", "failed", "error", "skipped"})
# where the runner's own files lie in the tree; test tools do not look into hidden folders
FOLDER = ".finetune"
LOG_CHARACTERS = 20_000
# keys of the runner's own lines
OURS = frozenset({"started", "id", "finished"})
# stands for all tests, with outcome "error", when a run that named none ended before its end
WHOLE_RUN = "(the whole run)"


@dataclass(frozen=True, slots=True)
class TestRun:
    """How each test ended, by its name as the runner spells it.

    outcomes has every test that was asked for: one that does not exist, was not reached, or whose process died is an
    "error"; with stop_at_first_failure those that came after are left out. broken: "" or why the infrastructure, not
    the code, kept the tests from running; outcomes is empty then and says nothing. seconds: wall time in the jail.
    told is what a plugin of ours said through the report.
    """

    __test__ = False

    outcomes: Mapping[str, TestOutcome]
    broken: str
    seconds: float
    log: str
    told: tuple[Mapping[str, object], ...] = ()

    def passed(self, tests: Sequence[str]) -> bool:
        """Whether these all passed; False for a broken run as well, so ask broken first."""
        return all(self.outcomes.get(test) == "passed" for test in tests)


class Runner(Protocol):
    """Calls one kind of test. tests are names as outcomes spells them, or files; none: all that the tool finds."""

    name: str

    def toolchain(self, program: Path | None) -> Toolchain:
        """What program needs to be seen in the jail, checked by running it there; None: the one of this machine.

        Raises InputError when it is not there, MachineError when it does not run in the jail.
        """
        ...

    def run(
        self,
        jail: Jail,
        toolchain: Toolchain,
        *,
        tree: Path,
        overlay: Mapping[str, bytes | None],
        tests: Sequence[str],
        limits: Limits,
        stop_at_first_failure: bool = False,
    ) -> TestRun:
        """Run tests in the tree with its overlay."""
        ...


def inside_file(name: str) -> bytes:
    """A program of ours for the jail."""
    return files("finetune.execution.runners.inside").joinpath(name).read_bytes()


def new_word() -> str:
    """The word that this run's report lines begin with, so that what a test prints is not read as a report."""
    return secrets.token_hex(8)


def reported(stdout: str, word: str) -> Iterator[Mapping[str, object]]:
    """The report lines, in order; a line that was cut off is left out."""
    for line in stdout.splitlines():
        if line.startswith(word + " "):
            try:
                entry = json.loads(line[len(word) :])
            except ValueError:
                continue
            yield entry


def test_run(result: JailResult, word: str, *, tests: Sequence[str], stops: bool) -> TestRun:
    """Read a report: {"started": version} once, before any code of the tree ran, then {"id", "outcome"} per test, then
    {"finished": ""}.

    Without "started" the tool itself did not run: broken. After it, whatever went wrong was the tree's doing, be it a
    file that cannot be imported or a process that died, and tests that were not heard of are errors.
    """
    return told_run(result, list(reported(result.stdout, word)), tests=tests, stops=stops)


def told_run(
    result: JailResult, entries: Sequence[Mapping[str, object]], *, tests: Sequence[str], stops: bool
) -> TestRun:
    """As test_run, of a report that a tool wrote in words of its own and that its runner put into these."""
    log = result.stderr[-LOG_CHARACTERS:]
    if result.note:
        log = f"{log}\n[{result.outcome}: {result.note}]"
    if result.outcome == "infrastructure" or not any("started" in entry for entry in entries):
        why = result.note or result.stderr.strip()[-500:] or f"the test tool ended with {result.exit_code}"
        return TestRun({}, why, result.seconds, log)
    outcomes: dict[str, TestOutcome] = {}
    for entry in entries:
        if entry.get("outcome") in OUTCOMES:
            outcomes[str(entry["id"])] = entry["outcome"]  # type: ignore[assignment]
    failed = any(outcome in ("failed", "error") for outcome in outcomes.values())
    finished = any("finished" in entry for entry in entries)
    if not finished:
        # a file or class of which only some tests were heard of did not pass
        outcomes.update(dict.fromkeys((test for test in tests or [WHOLE_RUN] if test not in outcomes), "error"))
    elif not (stops and failed):
        silent = [test for test in tests if not any(covers(test, known) for known in outcomes)]
        outcomes.update(dict.fromkeys(silent, "error"))
    told = tuple(entry for entry in entries if not OURS & entry.keys())
    return TestRun(outcomes, "", result.seconds, log, told)


test_run.__test__ = False  # type: ignore[attr-defined]


def only_asked(done: TestRun, tests: Sequence[str]) -> TestRun:
    """done without what nobody asked for, where a tool runs more than that."""
    if not tests:
        return done
    known = {name: outcome for name, outcome in done.outcomes.items() if any(covers(test, name) for test in tests)}
    return replace(done, outcomes=known)


def roomier(limits: Limits, *, open_files: int, processes: int, disk_bytes: int) -> Limits:
    """limits with at least so much of what a tool needs for itself before it runs a test."""
    return replace(
        limits,
        max_open_files=max(limits.max_open_files, open_files),
        max_processes=max(limits.max_processes, processes),
        disk_bytes=max(limits.disk_bytes, disk_bytes),
    )


def covers(asked: str, known: str) -> bool:
    """Whether a name that was asked for is this test, or a file, class or parametrised function that holds it."""
    return known == asked or known.startswith((f"{asked}::", f"{asked}[", f"{asked}/", f"{asked} > "))


def with_version(jail: Jail, toolchain: Toolchain, *command: str) -> tuple[Toolchain, JailResult]:
    """The toolchain with the first line that command prints in the jail as its version, and the command's result."""
    readable = [Path(path) for path in toolchain.readable]
    result = jail.run(
        command, tree=Path(__file__).parent / "inside", readable=readable, environment=dict(toolchain.environment)
    )
    lines = (result.stdout + result.stderr).strip().splitlines()
    return toolchain.model_copy(update={"version": lines[0] if lines else ""}), result
