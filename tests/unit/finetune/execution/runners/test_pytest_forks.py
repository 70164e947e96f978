"""Texts tried by forks of one process: which survive, and what one that ends the jail does to the others."""

import time

import pytest

from finetune.execution.jail import Limits
from finetune.execution.runners.pytest_forks import Trial, Tried, try_texts
from finetune.execution.runners.registry import RUNNERS

GREEDY = """import os, time
for _ in range(3):
    if os.fork() == 0:
        kept = b"x" * (150 << 20)
        time.sleep(60)
time.sleep(60)
"""
TEST = "test_module.py::test_same"
WRONG, RIGHT = "def same(value):\n    return 0\n", "def same(value):\n    return 1\n"


@pytest.fixture
def tried(jail, tmp_path):
    (tmp_path / "module.py").write_text("def same(value):\n    return value\n")
    (tmp_path / "test_module.py").write_text("from module import same\n\ndef test_same():\n    assert same(1) == 1\n")
    toolchain = RUNNERS["pytest"].toolchain(None)

    def tried(*texts: tuple[str, ...], modules=("json", "module", "no_such_module")) -> Tried:
        trials = [Trial("module.py", one, (TEST,), seconds=20, processor_seconds=3) for one in texts]
        limits = Limits(memory_bytes=300 << 20)
        return try_texts(jail, toolchain, tree=tmp_path, trials=trials, modules=modules, limits=limits)

    return tried


def test_the_first_text_that_its_tests_pass_survives(tried):
    # texts of one length within one second: what was compiled from one must not stand for another
    found = tried((WRONG, RIGHT), (RIGHT,), (WRONG, WRONG), (WRONG, WRONG, RIGHT), ("import no_such_module",))
    assert found == Tried({0: 1, 1: 0, 2: None, 3: 2, 4: None}, stopped_at=None)


def test_a_text_that_ends_the_jail_is_named_and_what_came_before_is_kept(tried):
    assert tried((WRONG,), (RIGHT,), (GREEDY,), (RIGHT,)) == Tried({0: None, 1: 0}, stopped_at=2)


def test_the_file_is_as_it_was_for_the_next(tried, tmp_path):
    (tmp_path / "other.py").write_text("def twice(value):\n    return 2 * value\n")
    assert tried((WRONG,), ("from other import twice\n\ndef same(value):\n    return twice(value) // 2\n",)) == Tried(
        {0: None, 1: 0}, stopped_at=None
    )


def test_an_endless_loop_ends_when_it_has_had_its_share_of_a_processor(tried):
    began = time.monotonic()
    assert tried(("def same(value):\n    while True:\n        pass\n", RIGHT)) == Tried({0: 1}, stopped_at=None)
    assert time.monotonic() - began < 20
