"""A tiny repository with tests, as mining leaves it in a folder of executed tasks."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from finetune.contracts.executed import ExecutedSuite, ExecutedTask, FileText, Toolchain
from finetune.contracts.executed_files import suite_digest
from finetune.contracts.io import write_json, write_text

CART = '''"""A cart."""


class Cart:
    def __init__(self):
        self.items = []

    def add(self, price, count=1):
        """Add an item, count times."""
        if count < 1:
            raise ValueError("count")
        self.items += [price] * count

    def total(self):
        return sum(self.items)
'''
FIXED = CART.replace("return sum(self.items)", "return round(sum(self.items), 2)")
TESTS = """from shop.cart import Cart
import pytest


def test_add():
    cart = Cart()
    cart.add(2, 3)
    assert cart.items == [2, 2, 2]


def test_add_refuses():
    with pytest.raises(ValueError):
        Cart().add(2, 0)


def test_empty():
    assert Cart().total() == 0
"""
ROUNDS = """

def test_total_rounds():
    cart = Cart()
    cart.add(0.1, 3)
    assert cart.total() == 0.3
"""
ADD_BODY = """        if count < 1:
            raise ValueError("count")
        self.items += [price] * count"""


def body_task(**changes: object) -> ExecutedTask:
    """Cart.add without its body."""
    values: dict[str, object] = {
        "id": "add",
        "kind": "body",
        "language": "python",
        "repo": "shop",
        "commit": "c" * 40,
        "path": "shop/cart.py",
        "cluster": "",
        "tree": "one",
        "statement": "Write the body of Cart.add.",
        "first_line": 10,
        "last_line": 12,
        "gold": (FileText(path="shop/cart.py", text=ADD_BODY),),
        "weak": ("        raise NotImplementedError", "        return None"),
        "fail_to_pass": ("tests/test_cart.py::test_add", "tests/test_cart.py::test_add_refuses"),
        "pass_to_pass": ("tests/test_cart.py::test_empty",),
        "timeout_seconds": 20.0,
        "slice": "novel",
    }
    return ExecutedTask.model_validate({**values, **changes})


def commit_task(**changes: object) -> ExecutedTask:
    """The commit that made totals round."""
    values: dict[str, object] = {
        "id": "rounds",
        "kind": "commit",
        "statement": "Totals are rounded to cents",
        "first_line": 0,
        "last_line": 0,
        "gold": (FileText(path="shop/cart.py", text=FIXED),),
        "weak": (),
        "tests": (FileText(path="tests/test_cart.py", text=TESTS + ROUNDS),),
        "fail_to_pass": ("tests/test_cart.py::test_total_rounds",),
        "pass_to_pass": ("tests/test_cart.py::test_add",),
        "slice": None,
    }
    return body_task(**{**values, **changes})


def save_suite(folder: Path, tasks: Sequence[ExecutedTask]) -> Path:
    """Write a folder as mining does, its digest fitting."""
    tree = folder / "trees" / "one"
    write_text(tree / "shop" / "__init__.py", "")
    write_text(tree / "shop" / "cart.py", CART)
    write_text(tree / "tests" / "test_cart.py", TESTS)
    write_text(folder / "tasks.jsonl", "".join(task.model_dump_json() + "\n" for task in tasks))
    readable = tuple(dict.fromkeys((sys.prefix, sys.base_prefix)))
    toolchain = Toolchain(
        runner="pytest",
        program=sys.executable,
        readable=tuple(path for path in readable if not path.startswith("/usr")),
        version="test",
    )
    suite = ExecutedSuite(digest=suite_digest(folder), toolchains=(toolchain,), num_tasks=len(tasks), seconds=1.0)
    write_json(folder / "suite.json", suite)
    return folder


@pytest.fixture
def make_suite(tmp_path: Path) -> Callable[..., Path]:
    def make(*tasks: ExecutedTask) -> Path:
        return save_suite(tmp_path / "suite", tasks)

    return make


@pytest.fixture
def body() -> Callable[..., ExecutedTask]:
    return body_task


@pytest.fixture
def commit() -> Callable[..., ExecutedTask]:
    return commit_task
