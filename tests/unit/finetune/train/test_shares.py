"""Shares of a row order: together they are the order, step by step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from finetune.contracts.dataset import Task
from finetune.contracts.errors import MachineError
from finetune.recipe.schema import TrainSection
from finetune.render.rows import TokenRow
from finetune.train.order import RowOrder, plan_order
from finetune.train.ranks import Ranks
from finetune.train.shares import check_agreement, share_of, with_silent_row

LENGTHS = [(index * 37) % 90 + 10 for index in range(101)]
SILENT = len(LENGTHS)


def steps(order: RowOrder) -> list[tuple[tuple[int, ...], ...]]:
    size = order.passes_per_step
    return [order.passes[start : start + size] for start in range(0, len(order.passes), size)]


@pytest.mark.parametrize("pass_tokens", [None, 200])
@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_shares_of_a_step_are_its_passes(size: int, pass_tokens: int | None) -> None:
    section = TrainSection(micro_batch=2, accumulation=6, num_processes=size)
    order = plan_order(LENGTHS, [1.0] * len(LENGTHS), section, pass_tokens=pass_tokens)
    shares = [share_of(order, Ranks(rank, size), silent=SILENT) for rank in range(size)]
    assert {share.num_steps for share in shares} == {order.num_steps}
    assert {share.packed for share in shares} == {order.packed}
    for number, whole in enumerate(steps(order)):
        parts = [steps(share)[number] for share in shares]
        assert len({len(part) for part in parts}) == 1
        together = Counter(rows for part in parts for rows in part)
        silent = together.pop((SILENT,), 0)
        assert together == Counter(whole)
        assert silent < size
        assert not silent or number == order.num_steps - 1


def test_one_process_has_the_whole_order() -> None:
    order = RowOrder(((0,), (1,), (2,)), 2)
    assert share_of(order, Ranks(), silent=3) == order


def row(length: int) -> TokenRow:
    ids = tuple(range(length))
    return TokenRow("r", Task.PRETRAIN, ids, (-100, *ids[1:]), length - 1, length)


def test_the_silent_row_is_the_shortest_without_a_label() -> None:
    rows = [row(5), row(3), row(4)]
    found = with_silent_row(rows)
    assert list(found[:3]) == rows
    assert found[3] == replace(rows[1], labels=(-100,) * 3, num_loss_tokens=0, loss_bytes=0)


class OtherRanks(Ranks):
    """Rank 0 of two, whose neighbour says something else."""

    def gather(self, value: object) -> Sequence[object]:  # type: ignore[override]
        return [value, "other"]


def test_adapters_that_differ_between_ranks_are_not_saved() -> None:
    import torch

    weights = {"a": torch.ones(2, 2)}
    with pytest.raises(MachineError, match="rank 1 holds another adapter than rank 0"):
        check_agreement(weights, OtherRanks(0, 2), step=3)
    check_agreement(weights, Ranks(), step=3)
