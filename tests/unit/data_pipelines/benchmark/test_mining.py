import sys
from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.benchmark.mining import mine_tasks, python_functions
from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import InputError
from finetune.contracts.executed_files import read_suite

from .conftest import commit

pytestmark = pytest.mark.usefixtures("jail")

MODULE = '''def clamp(value, low, high):
    """value, but no less than low and no more than high."""
    if value < low:
        return low
    return min(value, high)


def unseen(value):
    value += 1
    value += 2
    return value


def unchecked(value):
    value += 1
    value += 2
    return value


def swallowed(value):
    value += 1
    value += 2
    return value
'''
TESTS = """from shop import clamp, swallowed, unchecked


def test_low():
    assert clamp(1, 2, 3) == 2


def test_high():
    assert clamp(9, 2, 3) == 3


def test_runs():
    unchecked(1)


def test_swallows():
    try:
        swallowed(1)
    except NotImplementedError:
        pass


def test_broken():
    assert False
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return commit(tmp_path / "shop", {"shop.py": MODULE, "test_shop.py": TESTS})


def mine(folder: Path, out: Path, *, limit: int | None = None):
    with open_repository(folder, name="shop") as opened:
        return mine_tasks(opened, Path(sys.executable), out, limit=limit, jobs=2)


def test_only_a_function_that_tests_tell_from_stubs_becomes_a_task_and_each_other_is_counted(repository, tmp_path):
    out = tmp_path / "suite"
    mined = mine(repository, out)
    suite, (task,) = read_suite(out)
    assert (task.path, task.first_line, task.last_line) == ("shop.py", 3, 5)
    assert task.fail_to_pass == ("test_shop.py::test_high", "test_shop.py::test_low")
    assert len(task.weak) == 3
    assert {(one.stage, one.reason): one.count for one in suite.left_out} == {
        ("baseline", "test failed each time"): 1,
        ("functions", "Python file that serves tests"): 1,
        ("screen", "no test that passes each time enters it"): 1,
        ("screen", "its tests pass when it raises"): 1,
        ("screen", "its tests pass when it returns a plain value"): 1,
    }
    assert (mined.num_functions, mined.screened, mined.kept_from_before) == (4, 4, 0)
    assert not (out / "trees" / task.tree / ".git").exists()


def test_after_a_kill_what_was_judged_is_not_judged_again(repository, tmp_path):
    out = tmp_path / "suite"
    first = mine(repository, out)
    (journal,) = tmp_path.glob(".suite.mining/*/judged.jsonl")
    lines = [line for line in journal.read_text().splitlines() if line]
    journal.write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])
    again = mine(repository, out)
    assert (again.screened, again.kept_from_before) == (2, 2)
    assert again.suite.digest == first.suite.digest


def test_a_repository_without_a_passing_test_is_an_error_that_harms_nothing(repository, tmp_path):
    commit(repository, {"test_shop.py": "def test_broken():\n    assert False\n"}, "broken")
    with pytest.raises(InputError, match="No test of this repository passes"):
        mine(repository, tmp_path / "suite")
    assert not (tmp_path / "suite").exists()


def test_a_folder_that_holds_something_else_is_left_as_it_is(repository, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else"):
        mine(repository, tmp_path / "own")
    assert (tmp_path / "own" / "letter.txt").read_text() == "dear"


def test_a_folder_that_is_named_like_a_module_is_no_module(tmp_path):
    (tmp_path / "tree" / "shop.py").mkdir(parents=True)
    (tmp_path / "tree" / "shop.py" / "clamp.py").write_text(MODULE)
    assert len(python_functions(tmp_path / "tree", Counter())) == 4
