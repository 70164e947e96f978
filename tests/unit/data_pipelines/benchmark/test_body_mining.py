"""Functions in JavaScript and Go are mined with the real tools in the jail."""

import shutil
import subprocess

import pytest

from data_pipelines.benchmark.body_mining import mine_bodies
from data_pipelines.benchmark.languages.registry import LANGUAGES
from data_pipelines.benchmark.whole_runs import chosen
from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed_files import read_suite
from finetune.execution.jail import Jail

JAVASCRIPT = {
    "shop.js": """exports.clamp = (value, low, high) => {
  if (value < low) return low
  if (value > high) return high
  return value
}
exports.unseen = (value) => {
  value += 1
  value += 1
  return value
}
exports.unchecked = (value) => {
  value += 1
  value += 1
  return value
}
""",
    "shop.test.js": """const { test } = require('node:test')
const assert = require('assert')
const { clamp, unchecked } = require('./shop')
test('low', () => assert.equal(clamp(1, 2, 3), 2))
test('high', () => assert.equal(clamp(9, 2, 3), 3))
test('same', () => assert.equal(clamp(2, 1, 3), 2))
test('runs', () => { unchecked(1) })
test('broken', () => assert.fail())
""",
}
GO = {
    "go.mod": "module example.com/shop\n\ngo 1.18\n",
    "shop.go": """package shop

import "strings"

func Clamp(value, low, high int) int {
	if value < low {
		return low
	}
	return value
}

func Upper(value string) string {
	value += ""
	value += ""
	return strings.ToUpper(value)
}

func Odd(value strings.Builder) strings.Builder {
	value.WriteString("a")
	value.WriteString("b")
	return value
}
""",
    "shop_test.go": """package shop

import ("strings"; "testing")

func TestLow(t *testing.T) { if Clamp(1, 2, 3) != 2 { t.Fatal() } }
func TestSame(t *testing.T) { if Clamp(2, 1, 3) != 2 { t.Fatal() } }
func TestUpper(t *testing.T) { if Upper("a") != "A" { t.Fatal() } }
func TestOdd(t *testing.T) { Odd(strings.Builder{}) }
""",
}
SCREENED = "screen"


@pytest.fixture(scope="module", autouse=True)
def _jail():
    try:
        Jail.open()
    except MachineError as error:
        pytest.skip(str(error))


def repository(folder, files):
    folder.mkdir()
    for path, text in files.items():
        (folder / path).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    return folder


def mine(folder, out, language, *, limit=None):
    with open_repository(folder, name="shop") as opened:
        return mine_bodies(opened, LANGUAGES[language], out, program=None, limit=limit, jobs=2)


def left_of(suite):
    return {(one.stage, one.reason): one.count for one in suite.left_out}


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@needs_node
def test_javascript_that_tests_tell_from_stubs_becomes_a_task_and_the_rest_is_counted(tmp_path):
    folder, out = repository(tmp_path / "shop", JAVASCRIPT), tmp_path / "suite"
    mined = mine(folder, out, "javascript")
    suite, (task,) = read_suite(out)
    assert (task.path, task.first_line, task.last_line, task.language) == ("shop.js", 2, 4, "javascript")
    assert task.fail_to_pass == ("shop.test.js::high", "shop.test.js::low", "shop.test.js::same")
    assert task.pass_to_pass == ("shop.test.js::runs",)
    assert [body.strip() for body in task.weak] == [
        'throw new Error("not written");',
        "return undefined;",
        "return value;",
    ]
    assert left_of(suite) == {
        ("baseline", "test failed each time"): 1,
        ("functions", "a file that serves tests or is not the repository's own"): 1,
        (SCREENED, "its tests pass when it raises"): 1,
        (SCREENED, "its tests pass when it returns a plain value"): 1,
    }
    again = mine(folder, out, "javascript")
    assert (again.screened, again.kept_from_before, again.suite.digest) == (0, 3, mined.suite.digest)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (Debian: golang-go)")
def test_in_go_only_bodies_that_are_built_count_as_weak(tmp_path):
    out = tmp_path / "suite"
    mine(repository(tmp_path / "shop", GO), out, "go")
    suite, tasks = read_suite(out)
    assert {task.statement.split()[4]: set(task.fail_to_pass) for task in tasks} == {
        "Clamp": {"example.com/shop::TestLow", "example.com/shop::TestSame"},
        "Upper": {"example.com/shop::TestUpper"},
    }
    assert left_of(suite)[SCREENED, "its tests pass when it returns a plain value"] == 1


@needs_node
def test_a_repository_without_a_passing_test_is_an_error_that_harms_nothing(tmp_path):
    files = {**JAVASCRIPT, "shop.test.js": "require('node:test').test('x', () => { throw 1 })"}
    with pytest.raises(InputError, match="No test of this repository passes"):
        mine(repository(tmp_path / "shop", files), tmp_path / "suite", "javascript")
    assert not (tmp_path / "suite").exists()


def test_of_each_run_a_test_is_among_those_that_are_chosen():
    assert chosen([{"a", "b", "c"}, {"c", "z"}, {"z"}], 3) == ["a", "c", "z"]
    assert chosen([{"a", "b"}], 1) == ["a"]
