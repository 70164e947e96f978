import sys
from pathlib import Path

import pytest

from data_pipelines.benchmark.commit_mining import mine_commits
from data_pipelines.sources.git import open_repository
from finetune.contracts.executed_files import read_suite

from .conftest import commit

pytestmark = pytest.mark.usefixtures("jail")

FIRST = "def clamp(value, low):\n    return value\n\n\ndef double(value):\n    return value + value\n"
FIXED = FIRST.replace("return value\n", "return max(value, low)\n")
TRIPLED = FIXED.replace("value + value", "2 * value")
TESTS = "from shop import clamp, double\n\n\ndef test_double():\n    assert double(2) == 4\n"
LOW = "\n\ndef test_low():\n    assert clamp(1, 2) == 2\n"
ONCE_MORE = "\n\ndef test_once_more():\n    assert double(3) == 6\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mined") / "shop"
    first = {"shop.py": FIRST, "test_shop.py": TESTS, "large.py": "x = 1\n" * 1000}
    commit(folder, first, "Begin the shop with two functions")
    commit(folder, {"shop.py": FIXED, "test_shop.py": TESTS + LOW}, "Clamp values that are too low (#12)")
    commit(folder, {"shop.py": TRIPLED, "test_shop.py": TESTS + LOW + ONCE_MORE}, "Double by multiplication alone")
    return folder


@pytest.fixture(scope="module")
def mined(repository, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "suite"
    return mine(repository, out), out


def mine(folder: Path, out: Path, *, limit: int | None = None):
    with open_repository(folder, name="shop") as opened:
        return mine_commits(opened, Path(sys.executable), out, limit=limit, jobs=2)


def test_a_commit_whose_tests_tell_its_change_becomes_a_task_over_its_parents_tree(mined):
    told, out = mined
    suite, (task,) = read_suite(out)
    assert (task.kind, task.statement, task.path) == ("commit", "Clamp values that are too low", "shop.py")
    assert task.fail_to_pass == ("test_shop.py::test_low",)
    assert task.pass_to_pass == ("test_shop.py::test_double",)
    assert task.gold[0].text == FIXED and task.tests[0].text == TESTS + LOW
    tree = out / "trees" / task.tree
    assert (tree / "shop.py").read_text() == FIRST and (tree / "test_shop.py").read_text() == TESTS
    assert not (tree / ".git").exists()
    assert {(one.stage, one.reason): one.count for one in suite.left_out} == {
        ("commits", "adds, removes or renames a source file"): 1,
        ("screen", "its tests pass without its change"): 1,
    }
    assert (told.num_commits, told.num_candidates, told.judged, told.kept_from_before) == (3, 2, 2, 0)


@pytest.mark.slow
def test_after_a_kill_what_was_judged_is_not_judged_again(mined, repository):
    told, out = mined
    (journal,) = out.parent.glob(".suite.mining/*/judged.jsonl")
    lines = [line for line in journal.read_text().splitlines() if line]
    journal.write_text(lines[0] + "\n" + lines[1][:20])
    again = mine(repository, out)
    assert (again.judged, again.kept_from_before) == (1, 1)
    assert again.suite.digest == told.suite.digest
