from pathlib import Path

import pytest

from data_pipelines.benchmark.commit_screen import CommitScreen
from data_pipelines.benchmark.commits import SourceChange, Texts
from finetune.contracts.executed import FileText
from finetune.execution.runners.base import TestRun

TEXTS = Texts(
    (SourceChange("shop.py", "a = 1\n\n\nb = 2\n", "# one\na = 1\n\n\nb = 3\n"),),
    (FileText(path="test_shop.py", text="new tests"), FileText(path="test_old.py", text=None)),
)
GOLD, FORM, NOTHING = b"# one\na = 1\n\n\nb = 3\n", b"# one\na = 1\n\n\nb = 2\n", None
NEW, KEPT, OTHER = "test_shop.py::new", "test_shop.py::kept", "test_far.py::other"


class Scripted:
    """A runner that answers from a table by the source file's text; outcome functions get the number of the call."""

    name = "pytest"

    def __init__(self, passing):
        self.passing = passing
        self.calls = 0

    def run(self, jail, toolchain, *, tree, overlay, tests, limits, stop_at_first_failure=False):
        self.calls += 1
        assert overlay["test_shop.py"] == b"new tests" and overlay["test_old.py"] is None
        known = {NEW, KEPT, OTHER}
        asked = {name for name in known if not tests or any(name.startswith(test) for test in tests)}
        outcomes = self.passing(overlay.get("shop.py"), self.calls)
        if isinstance(outcomes, str):
            return TestRun({}, outcomes, 0.0, "")
        return TestRun({name: outcomes.get(name, "passed") for name in asked}, "", 1.0, "")


def judge(passing):
    screen = CommitScreen(None, Scripted(passing), None)  # type: ignore[arg-type]
    return screen.judge("c", TEXTS, tree=Path("/nowhere"))


def honest(source, call):
    return {} if source == GOLD else {NEW: "failed"}


def test_a_test_that_the_change_makes_pass_and_those_that_pass_all_along_are_named():
    judged = judge(honest)
    assert judged.kept and judged.fail_to_pass == (NEW,) and judged.pass_to_pass == (OTHER, KEPT)
    assert judged.timeout_seconds == 30


@pytest.mark.parametrize(
    ("passing", "reason"),
    [
        (lambda source, call: {}, "its tests pass without its change"),
        (lambda source, call: {NEW: "failed"}, "none of its tests fails before and passes after its change"),
        (lambda source, call: {NEW: "failed", KEPT: "error"}, "the environment runs none of its tests"),
        (
            lambda source, call: {} if source == GOLD else {NEW: "failed", KEPT: "failed", OTHER: "error"},
            "no test passes before its change",
        ),
        (
            lambda source, call: {} if source in (GOLD, FORM) else {NEW: "failed"},
            "its tests pass with the comments and white space of its change alone",
        ),
        (
            lambda source, call: {} if (source == GOLD and call != 4) else {NEW: "failed"},
            "its tests do not pass each time when they are run alone",
        ),
        (
            lambda source, call: {} if source == GOLD or call == 10 else {NEW: "failed"},
            "its tests pass now and then without its change",
        ),
    ],
)
def test_what_is_no_task_is_told_by_reason(passing, reason):
    assert judge(passing).reason == reason


def test_a_test_that_passes_now_and_then_is_not_named():
    judged = judge(lambda source, call: {OTHER: "failed"} if call == 7 else honest(source, call))
    assert judged.kept and judged.pass_to_pass == (KEPT,)


def test_a_skipped_test_that_then_passes_was_not_failing():
    judged = judge(lambda source, call: {} if source == GOLD else {NEW: "failed", KEPT: "skipped"})
    assert judged.fail_to_pass == (NEW,) and KEPT not in judged.pass_to_pass


def test_tests_that_could_not_be_run_say_nothing_of_the_commit():
    judged = judge(lambda source, call: "no jail")
    assert (judged.broken, judged.reason, judged.kept) == ("no jail", "", False)


def test_a_test_of_another_file_that_the_change_breaks_is_not_named():
    judged = judge(lambda source, call: {OTHER: "failed"} if source == GOLD else {NEW: "failed"})
    assert judged.kept and judged.pass_to_pass == (KEPT,)
