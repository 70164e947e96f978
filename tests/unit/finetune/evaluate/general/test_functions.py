"""Functions: the shipped outputs are the library's; right, wrong and broken answers are told apart in a jail."""

import json

import pytest

from finetune.contracts.errors import MachineError
from finetune.evaluate.general.functions import function_tasks, grade
from finetune.evaluate.general.make_functions import ROWS
from finetune.execution.jail import Jail, JailResult

TASKS = {task.name: task for task in function_tasks()}


def test_the_shipped_outputs_are_what_the_library_gives() -> None:
    assert len(TASKS) == len(ROWS) == 25
    for task, (_, _, real, inputs) in zip(TASKS.values(), ROWS, strict=True):
        assert [given for given, _ in task.cases] == inputs
        assert [wanted for _, wanted in task.cases] == json.loads(json.dumps([real(*given) for given in inputs]))


def test_no_constant_is_right_on_all_cases() -> None:
    assert not [task.name for task in TASKS.values() if len({json.dumps(wanted) for _, wanted in task.cases}) < 2]


@pytest.fixture(scope="module")
def jail() -> Jail:
    try:
        return Jail.open()
    except MachineError as error:
        pytest.skip(error.message)


@pytest.mark.parametrize(
    ("body", "passed", "note"),
    [
        ("    while b:\n        a, b = b, a % b\n    return abs(a)", True, ""),
        ("    return 1", False, "it gave [1, 1, 1, 1, 1]"),
        ("    (", False, "SyntaxError: '(' was never closed"),
        ("    import os\n    os._exit(0)", False, ""),
        ("    return object()", False, "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_an_answer_is_graded_by_what_it_gives(jail: Jail, body: str, passed: bool, note: str) -> None:
    found = grade(TASKS["gcd"], body, jail)
    assert (found.passed, found.note, found.broken) == (passed, note, "")


def test_a_jail_that_could_not_run_says_nothing_of_the_answer() -> None:
    class Broken:
        def run(self, *_: object, **__: object) -> JailResult:
            return JailResult("infrastructure", None, "", "", 0.0, note="no disk")

    assert grade(TASKS["gcd"], "    return 1", Broken()).broken == "no disk"
