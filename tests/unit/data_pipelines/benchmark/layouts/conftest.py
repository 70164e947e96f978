from pathlib import Path

import pytest

from data_pipelines.benchmark.suite_folder import write_suite
from finetune.contracts.executed import ExecutedTask, FileText, Toolchain

SHOP = "def clamp(value, low):\n    if value < low:\n        return low\n    return value\n"
SLOW = SHOP.replace("value < low", "value <= low - 0")
WRONG = SHOP.replace("return low", "return value")
DOUBLE = "from shop import clamp\n\n\ndef test_high():\n    assert clamp(3, 2) == 3\n"
LOW = DOUBLE + "\n\ndef test_low():\n    assert clamp(1, 2) == 2\n"
COMMON = {"language": "python", "repo": "Corp/shop", "cluster": "", "timeout_seconds": 30.0}


def commit_task(**changed) -> ExecutedTask:
    task = ExecutedTask(
        id="c" * 16,
        kind="commit",
        commit="2" * 40,
        path="shop.py",
        tree="1" * 40,
        statement='Clamp "low" values\n\nAs they should be.',
        gold=(FileText(path="shop.py", text=SHOP),),
        tests=(FileText(path="tests/test_shop.py", text=LOW), FileText(path="tests/test_gone.py", text=None)),
        fail_to_pass=("tests/test_shop.py::test_low",),
        pass_to_pass=("tests/test_shop.py::test_high",),
        **COMMON,
    )
    return task.model_copy(update=changed)


def body_task(**changed) -> ExecutedTask:
    task = ExecutedTask(
        id="b" * 16,
        kind="body",
        commit="3" * 40,
        path="shop.py",
        tree="3" * 12,
        statement="Write the body of clamp in shop.py, so that the repository's tests pass.",
        first_line=2,
        last_line=4,
        gold=(FileText(path="shop.py", text="\n".join(SHOP.split("\n")[1:4])),),
        weak=("    raise LookupError",),
        fail_to_pass=("tests/test_shop.py::test_low",),
        pass_to_pass=(),
        **COMMON,
    )
    return task.model_copy(update=changed)


@pytest.fixture
def tree(tmp_path: Path):
    def make(name: str, shop: str, tests: str) -> Path:
        folder = tmp_path / name
        (folder / "tests").mkdir(parents=True)
        (folder / "shop.py").write_text(shop)
        (folder / "tests" / "test_shop.py").write_text(tests)
        (folder / "tests" / "test_gone.py").write_text("def test_gone():\n    assert False\n")
        return folder

    return make


@pytest.fixture
def suite(tmp_path: Path, tree) -> Path:
    out = tmp_path / "suite"
    trees = {"1" * 40: tree("parent", WRONG, DOUBLE), "3" * 12: tree("head", SHOP, LOW)}
    toolchain = Toolchain(runner="pytest", program="/venv/bin/python")
    write_suite(out, [commit_task(), body_task()], trees=trees, toolchain=toolchain, left={}, seconds=0.0)
    return out
