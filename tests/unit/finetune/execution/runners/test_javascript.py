"""node --test in the jail."""

import shutil

import pytest

from finetune.contracts.errors import InputError
from finetune.execution.jail import Limits
from finetune.execution.runners.registry import RUNNERS

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

TESTS = """
const { test, describe, it } = require('node:test');
const assert = require('assert');
const { same } = require('./module');
test('plain', () => assert.equal(same(1), 1));
test('bad', () => assert.equal(same(1), 2));
test('left out', { skip: true }, () => {});
describe('group', () => { it('inner', () => assert.equal(same('x'), 'x')); });
"""
FILE = "module.test.js"
GREEN = [f"{FILE}::plain", f"{FILE}::group > inner"]


@pytest.fixture
def run(jail, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "module.js").write_text("exports.same = (value) => value;\n")
    (folder / FILE).write_text(TESTS)
    runner = RUNNERS["javascript"]
    toolchain = runner.toolchain(None)

    def run(tests=(), overlay=None):
        limits = Limits(timeout_seconds=20)
        return runner.run(jail, toolchain, tree=folder, overlay=overlay or {}, tests=tests, limits=limits)

    return run


def test_each_test_is_told_by_its_name(run):
    done = run()
    assert done.broken == "", done.log
    assert dict(done.outcomes) == {
        **dict.fromkeys(GREEN, "passed"),
        f"{FILE}::bad": "failed",
        f"{FILE}::left out": "skipped",
    }


def test_only_what_was_asked_for_is_told(run):
    assert dict(run(GREEN).outcomes) == dict.fromkeys(GREEN, "passed")


@pytest.mark.parametrize("code", [b"exports.same = ;", None, b"process.exit(0)", b"exports.same = () => null;"])
def test_what_the_code_does_wrong_is_its_own_fault(run, code):
    done = run(GREEN, {"module.js": code})
    assert done.broken == ""
    assert not done.passed(GREEN)
    assert set(GREEN) <= set(done.outcomes)


def test_a_test_that_does_not_exist_is_an_error(run):
    assert dict(run(["gone.test.js::x"]).outcomes) == {"gone.test.js::x": "error"}


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no-node"):
        RUNNERS["javascript"].toolchain(tmp_path / "no-node")
