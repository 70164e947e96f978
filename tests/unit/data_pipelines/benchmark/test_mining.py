import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.benchmark.mining import choose, mine_tasks
from data_pipelines.benchmark.screen import Screened
from data_pipelines.benchmark.screening import enough
from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed_files import read_suite
from finetune.contracts.io import digest_text
from finetune.execution.jail import Jail

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


@pytest.fixture(scope="module", autouse=True)
def _jail():
    try:
        Jail.open()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(MODULE)
    (folder / "test_shop.py").write_text(TESTS)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    return folder


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
    (journal,) = tmp_path.glob(".suite.mining/*/functions.jsonl")
    lines = [line for line in journal.read_text().splitlines() if line]
    journal.write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])
    again = mine(repository, out)
    assert (again.screened, again.kept_from_before) == (2, 2)
    assert again.suite.digest == first.suite.digest


def test_a_repository_without_a_passing_test_is_an_error_that_harms_nothing(repository, tmp_path):
    (repository / "test_shop.py").write_text("def test_broken():\n    assert False\n")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run([*git, "commit", "-qam", "broken"], check=True)
    with pytest.raises(InputError, match="No test of this repository passes"):
        mine(repository, tmp_path / "suite")
    assert not (tmp_path / "suite").exists()


def test_a_folder_that_holds_something_else_is_left_as_it_is(repository, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else"):
        mine(repository, tmp_path / "own")
    assert (tmp_path / "own" / "letter.txt").read_text() == "dear"


def test_a_limit_keeps_the_same_functions_whatever_was_judged_beside_them():
    names = [f"shop.py:{line}:f" for line in range(9)]
    first, second, *others = sorted(names, key=digest_text)
    assert names[:2] != [first, second]
    all_kept = {name: Screened(function=name) for name in names}
    few_kept = {name: Screened(function=name) for name in (first, second)}
    left = Counter[tuple[str, str]]()
    assert choose(names, all_kept, left=left, limit=2) == [first, second]
    assert left == {("screen", "kept by screening, beyond --limit"): len(others)}
    assert choose(names, few_kept, left=Counter(), limit=2) == [first, second]


def test_a_function_that_a_kill_left_out_is_judged_before_a_limit_counts_as_reached():
    first, second, third, fourth = sorted((f"shop.py:{line}:f" for line in range(4)), key=digest_text)
    assert not enough({first, third}, second, limit=2)
    assert enough({first, second}, third, limit=2)
    assert not enough({first, second, third}, fourth, limit=None)
