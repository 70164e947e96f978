import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.benchmark.commit_mining import choose, enough, mine_commits
from data_pipelines.benchmark.commit_screen import JudgedCommit
from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import MachineError
from finetune.contracts.executed_files import read_suite
from finetune.execution.jail import Jail

FIRST = "def clamp(value, low):\n    return value\n\n\ndef double(value):\n    return value + value\n"
FIXED = FIRST.replace("return value\n", "return max(value, low)\n")
TRIPLED = FIXED.replace("value + value", "2 * value")
TESTS = "from shop import clamp, double\n\n\ndef test_double():\n    assert double(2) == 4\n"
LOW = "\n\ndef test_low():\n    assert clamp(1, 2) == 2\n"
ONCE_MORE = "\n\ndef test_once_more():\n    assert double(3) == 6\n"


@pytest.fixture(scope="module", autouse=True)
def _jail():
    try:
        Jail.open()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mined") / "shop"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=Ada Lovelace", "-c", "user.email=ada@corp.example"]
    subprocess.run([*git, "init", "-q"], check=True)

    def commit(message, **files):
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", message], check=True)

    commit("Begin the shop with two functions", shop=FIRST, test_shop=TESTS, large="x = 1\n" * 1000)
    commit("Clamp values that are too low (#12)", shop=FIXED, test_shop=TESTS + LOW)
    commit("Double by multiplication alone", shop=TRIPLED, test_shop=TESTS + LOW + ONCE_MORE)
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
    (journal,) = out.parent.glob(".suite.mining/*/commits.jsonl")
    lines = [line for line in journal.read_text().splitlines() if line]
    journal.write_text(lines[0] + "\n" + lines[1][:20])
    again = mine(repository, out)
    assert (again.judged, again.kept_from_before) == (1, 1)
    assert again.suite.digest == told.suite.digest


def test_the_newest_commits_are_kept_whatever_was_judged_beside_them():
    done = {name: JudgedCommit(commit=name) for name in "abcd"} | {"b": JudgedCommit(commit="b", reason="no")}
    left = Counter[tuple[str, str]]()
    assert choose(list("abcde"), done, left=left, limit=2) == ["a", "c"]
    assert left == {
        ("screen", "no"): 1,
        ("screen", "kept by screening, beyond --limit"): 1,
        ("screen", "not judged: --limit was reached"): 1,
    }


def test_a_commit_that_a_kill_left_out_is_judged_before_a_limit_counts_as_reached():
    assert not enough({0, 2}, 1, limit=2)
    assert enough({0, 1}, 2, limit=2)
    assert not enough({0, 1}, 2, limit=None)
