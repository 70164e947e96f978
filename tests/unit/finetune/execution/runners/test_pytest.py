"""pytest in the jail: how tests end, what the tree may do wrong, and what is the infrastructure's fault."""

import json
import sys
from pathlib import Path

import pytest

from finetune.contracts.errors import InputError, MachineError
from finetune.execution.jail import Limits
from finetune.execution.runners.base import WHOLE_RUN
from finetune.execution.runners.registry import RUNNERS

TESTS = """
import pytest, module

@pytest.mark.parametrize("value", [1, "a b", "é\\n[::]"])
def test_odd(value):
    print("loud")
    assert module.same(value) == value

def test_skipped():
    pytest.skip("no")

@pytest.mark.xfail
def test_expected():
    assert False

class TestGroup:
    def test_writes(self, tmp_path, cache):
        (tmp_path / "file").write_text("x")

    def test_fails(self):
        assert module.same(1) == 2

@pytest.fixture
def broken():
    raise ValueError

def test_error(broken):
    pass
"""
FILE = "tests/test_module.py"
ODD = [f"{FILE}::test_odd[1]", f"{FILE}::test_odd[a b]", f"{FILE}::test_odd[\\xe9\\n[::]]"]
OTHER = "tests/test_other.py::test_other"
GREEN = [*ODD, f"{FILE}::TestGroup::test_writes", OTHER]


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "src" / "module.py").write_text("def same(value):\n    return value\n")
    (folder / FILE).write_text(TESTS)
    (folder / "tests" / "test_other.py").write_text("def test_other():\n    pass\n")
    return folder


@pytest.fixture(scope="session")
def toolchain():
    return RUNNERS["pytest"].toolchain(None)


@pytest.fixture
def run(jail, repository, toolchain):
    def run(tests=(), overlay=None, *, timeout_seconds=30.0, **options):
        return RUNNERS["pytest"].run(
            jail,
            options.pop("toolchain", toolchain),
            tree=repository,
            overlay=overlay or {},
            tests=tests,
            limits=Limits(timeout_seconds=timeout_seconds),
            **options,
        )

    return run


def test_a_toolchain_is_seen_to_run(toolchain):
    assert toolchain.program == sys.executable
    assert f"pytest {pytest.__version__}" in toolchain.version


def test_each_test_is_told_by_its_name(run):
    done = run()
    assert done.broken == ""
    assert dict(done.outcomes) == {
        **dict.fromkeys(GREEN, "passed"),
        f"{FILE}::test_skipped": "skipped",
        f"{FILE}::test_expected": "skipped",
        f"{FILE}::TestGroup::test_fails": "failed",
        f"{FILE}::test_error": "error",
    }


def test_only_what_was_asked_for_runs(run):
    assert dict(run([ODD[2], OTHER]).outcomes) == {ODD[2]: "passed", OTHER: "passed"}
    assert dict(run([f"{FILE}::test_odd"]).outcomes) == dict.fromkeys(ODD, "passed")


def test_a_test_that_does_not_exist_is_an_error_and_the_others_run(run):
    gone = ["tests/gone.py::test_x", f"{FILE}::test_gone"]
    assert dict(run([*gone, OTHER]).outcomes) == {**dict.fromkeys(gone, "error"), OTHER: "passed"}
    assert dict(run(gone[:1]).outcomes) == {gone[0]: "error"}


@pytest.mark.parametrize(
    ("code", "others"),
    [
        (b"def same(:", "passed"),
        (b"import no_such_module", "passed"),
        (None, "passed"),
        (b"import os; os._exit(0)", "error"),
        (b"def same(value):\n    import os; os._exit(0)", "error"),
        (b"def same(value):\n    raise KeyboardInterrupt", "error"),
        (b"def same(value):\n    import pytest; pytest.exit('bye', 0)", "error"),
        (b"def same(value):\n    import sys; sys.exit(0)", "passed"),
        (b"import ctypes; ctypes.string_at(0)", "error"),
        (b"def same(value):\n    return None", "passed"),
        (b"def same(value):\n    while True: pass", "error"),
        (b"import os\nwhile True: os.write(2, b'flood' * 1000)", "passed"),
    ],
)
def test_what_the_code_does_wrong_is_its_own_fault(run, code, others):
    done = run(GREEN, {"src/module.py": code}, timeout_seconds=4)
    assert done.broken == ""
    assert not done.passed(ODD[:1])
    assert done.outcomes[OTHER] == others
    assert set(GREEN) <= set(done.outcomes)


@pytest.mark.parametrize("name", ["conftest.py", "tests/conftest.py", "pytest.py", "json.py", "sitecustomize.py"])
def test_code_that_breaks_the_test_tool_is_its_own_fault(run, name):
    done = run([OTHER], {name: b"raise SystemError"})
    assert done.broken == ""


def test_a_run_that_ends_before_its_end_is_never_whole(run):
    ends = {"tests/test_aaa.py": b"import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n"}
    done = run((), ends)
    assert dict(done.outcomes) == {"tests/test_aaa.py::test_a": "passed", WHOLE_RUN: "error"}
    named = run(["tests/test_aaa.py"], ends)
    assert named.outcomes["tests/test_aaa.py"] == "error"


def test_a_report_that_a_test_prints_is_not_read(run):
    fails = f"{FILE}::TestGroup::test_fails"
    line = "x " + json.dumps({"id": fails, "outcome": "passed"}) + "\n"
    forged = f"import os\nfor fd in (1, 2, 3, 4, 5, 6): os.write(fd, {line.encode()!r})\n".replace(
        ": os", ":\n  try: os"
    )
    forged = (forged + "  except OSError: pass\n").encode()
    assert dict(run([fails], {"src/module.py": forged + b"def same(value): return value"}).outcomes) == {
        fails: "failed"
    }


def test_it_stops_at_the_first_failure_when_told_to(run):
    done = run(GREEN, {"src/module.py": b"def same(value):\n    return None\n"}, stop_at_first_failure=True)
    assert dict(done.outcomes) == {ODD[0]: "failed"}


def test_an_interpreter_that_is_not_seen_is_broken_infrastructure(run, toolchain):
    done = run(GREEN, toolchain=toolchain.model_copy(update={"readable": (), "program": "/no/such/python"}))
    assert dict(done.outcomes) == {}
    assert "/no/such/python" in done.broken


def test_an_environment_without_pytest_is_refused_with_what_to_type(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    program = tmp_path / "venv" / "bin" / "python"
    program.symlink_to(Path(sys.executable).resolve())
    (tmp_path / "venv" / "pyvenv.cfg").write_text(
        f"home = {Path(sys.base_prefix, 'bin')}\ninclude-system-site-packages = false\n"
    )
    with pytest.raises(MachineError, match=r"-m pip install pytest"):
        RUNNERS["pytest"].toolchain(program)


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no-python"):
        RUNNERS["pytest"].toolchain(tmp_path / "no-python")
