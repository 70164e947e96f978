import time

import pytest

from data_pipelines.config import SplitSection
from data_pipelines.draw import Draw
from data_pipelines.split.assign import Item, plan_split
from data_pipelines.split.table import OURS, leakage_table

SECTION = SplitSection()


def table(items, commits, paths, section=SECTION):
    plan = plan_split(items, (), section=section, seed=0)
    rows = leakage_table(items, commits=commits, paths=paths, plan=plan, seed=0)
    return {row.method: row for row in rows}


def test_methods_leak_as_their_groups_say():
    """Twenty files, each edited five times: all states of a file are twins, each commit touches two files."""
    items, commits, paths = [], [], []
    for state in range(5):
        for file in range(20):
            moment = state * 10 + file // 2
            items.append(Item(f"{file}-{state}", moment, (file,)))
            commits.append(f"c{moment}")
            paths.append(f"p{file}")
    rows = table(items, commits, paths)
    ours = rows[f"{OURS}: novel"], rows[f"{OURS}: evolving"]
    share = ours[0].heldout + ours[1].heldout
    assert ours[0].near == 0
    assert ours[1].near == ours[1].heldout > 0
    assert rows["by path"].near == 0
    for method in ("random rows", "by commit", "newest by time"):
        assert rows[method].near == rows[method].heldout, method
        assert abs(rows[method].heldout - share) <= 2
        assert rows[method].train + rows[method].heldout == len(items)
    assert ours[0].train + share < len(items), "what was purged is not in train"


def test_it_is_the_same_for_any_order_of_items():
    items = [Item(f"f{n}", n % 50, (n % 70, n % 7 + 70)) for n in range(300)]
    commits, paths = [f"c{n % 50}" for n in range(300)], [f"p{n % 90}" for n in range(300)]
    assert table(items, commits, paths) == table(items[::-1], commits[::-1], paths[::-1])


def test_nothing_held_out_leaks_nothing():
    items = [Item("a", 1, (0,)), Item("b", 1, (0,))]
    rows = table(items, ["c", "c"], ["p", "q"])
    assert {row.near for row in rows.values()} == {0}


@pytest.mark.slow
def test_a_hundred_thousand_items_take_seconds():
    draw = Draw("many")
    items = [Item(f"f{n}", draw.below(10_000), (draw.below(40_000),)) for n in range(100_000)]
    names = [item.key for item in items]
    start = time.process_time()
    table(items, names, names)
    assert time.process_time() - start < 30
