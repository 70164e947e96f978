"""Judging by a quick look first comes to what judging by whole runs alone comes to."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipelines.benchmark import quick as quick_module
from data_pipelines.benchmark.baseline import take_baseline
from data_pipelines.benchmark.body_runs import BodyRuns
from data_pipelines.benchmark.functions import find_functions
from data_pipelines.benchmark.quick import Quick, glance
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.screen import SURVIVES_PLAIN, SURVIVES_RAISING, UNTESTED, Candidate, Examined, Screen
from data_pipelines.benchmark.screening import Screening
from finetune.execution.runners.pytest_forks import Tried
from finetune.execution.runners.registry import RUNNERS

SHOP = """import functools

REGISTRY = {}


def register(name):
    REGISTRY[name] = len(REGISTRY)
    size = len(REGISTRY)
    return size


register("first")


def traced(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@traced
def decorated(value):
    value += 1
    value += 2
    return value


@functools.lru_cache
def cached(value):
    value += 1
    value += 2
    return value


def adder(step):
    def add(value):
        return value + step

    return add


class Till:
    def __init__(self, coins):
        total = sum(coins)
        self.total = total
        self.open = False

    @classmethod
    def of(cls, *coins):
        coins = list(coins)
        made = cls(coins)
        return made

    @staticmethod
    def change(paid, price):
        rest = paid - price
        rest = max(rest, 0)
        return rest

    @property
    def half(self):
        half = self.total
        half /= 2
        return half


def kill_me(value):
    value += 1
    value += 2
    return value


def spare_m(value):
    value += 1
    value += 2
    return value


def counted(limit):
    for one in range(limit):
        yield one
    return


def served(prices):
    prices = sorted(prices)
    prices = prices[:2]
    return prices


def leaves(value):
    value += 1
    value += 2
    return value


def loops(value):
    value += 1
    value += 2
    return value


def floods(value):
    value += 1
    value += 2
    return value
"""
USER = """from shop import kill_me


def doubled(value):
    first = kill_me(value)
    second = first * 2
    return second
"""
CONFTEST = """import pytest

from shop import served


@pytest.fixture(scope="session")
def cheap():
    return served([3, 1, 2])
"""
TESTS = """import os
import subprocess
import sys

import shop
from shop import cached, counted, decorated, floods, kill_me, leaves, loops, spare_m
from user import doubled


def test_registry():
    assert shop.REGISTRY == {"first": 0}
    assert shop.register("second") == 2


def test_registry_is_as_it_was():
    assert "third" not in shop.REGISTRY


def test_decorated():
    assert decorated(1) == 4


def test_cached():
    assert cached(1) == cached(1) == 4


def test_adder():
    assert shop.adder(2)(3) == 5


def test_till():
    till = shop.Till.of(1, 2)
    assert till.half == 1.5
    assert shop.Till.change(5, 3) == 2


def test_kill():
    assert kill_me(1) == 4


def test_spare():
    try:
        assert spare_m(1) == 4
    except NotImplementedError:
        pass


def test_plain():
    list(counted(0))
    for _ in counted(0):
        assert False


def test_cheap(cheap):
    assert cheap == [1, 2]


def test_doubled():
    assert doubled(1) == 8


def test_leaves(tmp_path):
    assert not os.listdir(tmp_path.parent.parent.parent) == []
    try:
        assert leaves(1) == 4
    except BaseException:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        os._exit(0)


def test_loops():
    while True:
        try:
            assert loops(1) == 4
            break
        except NotImplementedError:
            pass


def test_floods():
    try:
        assert floods(1) == 4
    except NotImplementedError:
        while True:
            os.write(1, b"x" * 65536)


def test_alone():
    children = [name for name in os.listdir("/proc") if name.isdigit()]
    assert len(children) <= 3
    assert not os.path.exists("/tmp/left")
    open("/tmp/left", "w").close()
    kill_me(1)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    files = {"shop.py": SHOP, "user.py": USER, "conftest.py": CONFTEST, "test_shop.py": TESTS}
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def screening(jail, tree) -> Screening:
    runner = RUNNERS["pytest"]
    toolchain = runner.toolchain(Path(sys.executable))
    baseline = take_baseline(runner, toolchain, jail=jail, tree=tree)
    assert baseline.left_out == ()
    functions = {
        f"{path}:{one.first_line}:{one.name}": one
        for path in ("shop.py", "user.py")
        for one in find_functions(path, (tree / path).read_text())[0]
    }
    return Screening(
        screen=Screen(BodyRuns(jail, runner, toolchain, tree, timeout_seconds=4.0)),
        quick=Quick(jail, toolchain, tree, baseline.modules),
        functions=functions,
        tests=baseline.tests_of(),
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(quick_module, "LEAST_SECONDS", 3.0)


def test_who_was_not_looked_at_is_judged_by_whole_runs_or_looked_at_again(screening):
    function = next(iter(screening.functions.values()))
    first, second, third, fourth = (
        Examined(Candidate(str(number), function, ("test",)), ("test",), (), seconds=1.0) for number in range(4)
    )
    found = glance([first, second, third, fourth], Tried({0: None, 1: 0}, stopped_at=2))
    assert [(one.name, one.reason) for one in found.judged] == [("0", ""), ("1", SURVIVES_PLAIN)]
    assert (found.unsure, found.unseen) == ((third,), (fourth,))
    assert glance([first, second], Tried({}, stopped_at=None)).unsure == (first, second)


def judged(screening: Screening, folder: Path):
    folder.mkdir()
    record = Record(folder / "judged.jsonl", sorted(screening.functions), limit=None)
    screening.run(record, jobs=2)
    return {name.split(":")[-1]: one.model_copy(update={"timeout_seconds": 0}) for name, one in record.done.items()}


@pytest.mark.slow
def test_forks_and_whole_runs_come_to_the_same(screening, tmp_path):
    quickly = judged(screening, tmp_path / "quick")
    slowly = judged(replace(screening, quick=None), tmp_path / "slow")
    assert {name: one.reason for name, one in quickly.items() if one.reason} == {
        "spare_m": SURVIVES_RAISING,
        "counted": SURVIVES_PLAIN,
        "traced": UNTESTED,
    }
    assert quickly == slowly
    assert len(quickly) == len(screening.functions)
