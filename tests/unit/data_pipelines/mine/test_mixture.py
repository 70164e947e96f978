import random

import pytest

from data_pipelines.mine.mixture import RowMeta, choose, priority_of
from finetune.contracts.dataset import Task

ROWS = [
    RowMeta(f"row-{repo}-{n}", task, repo, 100)
    for repo in ("api", "shop")
    for n, task in enumerate([Task.INFILL, Task.TESTS] * 500)
]


def test_by_default_nothing_is_left_out():
    chosen = choose(ROWS)
    assert chosen.ids == {row.id for row in ROWS}
    assert chosen.left_out == {}


def test_a_weight_keeps_its_share_of_a_task():
    chosen = choose(ROWS, weights={Task.TESTS: 0.25, Task.INFILL: 1})
    kept = [row for row in ROWS if row.id in chosen.ids]
    assert sum(row.task is Task.INFILL for row in kept) == 1000
    assert 200 < sum(row.task is Task.TESTS for row in kept) < 300
    assert chosen.left_out == {(Task.TESTS, "mixture weight"): 2000 - len(kept)}
    none = choose(ROWS, weights={Task.TESTS: 0}).ids
    assert {row.task for row in ROWS if row.id in none} == {Task.INFILL}


def test_the_budget_is_kept_by_each_repository_and_what_is_over_it_is_counted():
    chosen = choose(ROWS, budget=10_050, source_weights={"shop": 2.0})
    by_repo = {
        repo: sum(row.learned_bytes for row in ROWS if row.repo == repo and row.id in chosen.ids)
        for repo in ("api", "shop")
    }
    assert by_repo == {"api": 10_000, "shop": 20_100}
    assert sum(chosen.left_out.values()) == 2000 - 301
    assert {reason for _, reason in chosen.left_out} == {"over the budget of api", "over the budget of shop"}


def test_the_budget_is_shared_by_weight():
    chosen = choose(ROWS, weights={Task.TESTS: 0.5}, budget=30_000)
    kept = [row for row in ROWS if row.id in chosen.ids]
    share = sum(row.task is Task.TESTS for row in kept) / len(kept)
    assert 0.28 < share < 0.38


@pytest.mark.parametrize("seed", range(3))
def test_neither_the_order_nor_the_division_into_repositories_matters(seed):
    settings = {"weights": {Task.TESTS: 0.5}, "budget": 12_345}
    whole = choose(ROWS, **settings)
    shuffled = random.Random(seed).sample(ROWS, len(ROWS))
    assert choose(shuffled, **settings) == whole
    parts = [choose([row for row in shuffled if row.repo == repo], **settings).ids for repo in ("api", "shop")]
    assert parts[0] | parts[1] == whole.ids


def test_smaller_shares_and_budgets_keep_parts_of_larger_ones():
    budgets = [choose(ROWS, budget=budget).ids for budget in (5_000, 10_000, 50_000)]
    assert budgets[0] < budgets[1] < budgets[2]
    shares = [choose(ROWS, weights={Task.TESTS: weight}).ids for weight in (0.1, 0.5, 0.9)]
    assert shares[0] < shares[1] < shares[2]


def test_priorities_are_those_of_the_id_alone():
    assert priority_of("a", 1.0) == priority_of("a", 0.5) / 2
    assert priority_of("a", 1.0) < 1
    assert priority_of("a", 0.0) == float("inf")
