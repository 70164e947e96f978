"""The work of a run's steps: learned tokens alone go through the head, and packed rows do not see each other."""

import pytest

from finetune.contracts.dataset import Task
from finetune.plan.shape import Activations, LayerShape, LinearMaps, ModelShape
from finetune.render.rows import TokenRow
from finetune.train.matmul import matmul_tflops
from finetune.train.order import RowOrder
from finetune.train.utilisation import RowWork, Utilisation, Work, pass_work, row_work, step_work

NOTHING = Activations(0, 0, 0)
SHAPE = ModelShape(
    hidden=8,
    vocabulary=100,
    tied=True,
    maps=(LinearMaps("q_proj", 8, 8, 2),),
    other_parameters=0,
    layers=(LayerShape("full_attention", 2, NOTHING, NOTHING, attention_width=8, window=None, state_flops=0.0),),
    cache_bytes=0,
)


def cost(*, checkpointing: bool = False, scores_all: bool = False) -> RowWork:
    return row_work(SHAPE, targets=(), rank=4, checkpointing=checkpointing, scores_all=scores_all)


def test_a_row_by_hand() -> None:
    # 4 operations per weight, attention over half the row forward and 2.5 times that backward, the head on 3 of 10
    body, attention, head = 4 * 2 * 64 * 10, 10 * 2 * 2 * 5 * 8 * 2 * 3.5, 2 * 100 * 8
    assert cost()(10, 3) == Work(10, body + attention + 2 * head * 3, body + attention + 3 * head * 3)


def test_the_head_on_tokens_that_are_not_learned_is_done_and_not_needed() -> None:
    few, all_tokens = cost()(10, 3), cost(scores_all=True)(10, 3)
    assert few.needed == all_tokens.needed
    assert all_tokens.done == pytest.approx(few.done + 7 * 3 * 2 * 100 * 8)


def test_checkpointing_is_done_and_not_needed() -> None:
    plain, again = cost()(10, 3), cost(checkpointing=True)(10, 3)
    assert plain.needed == pytest.approx(again.needed)
    assert plain.done < again.done


def token_row(tokens: int) -> TokenRow:
    ids = tuple(range(tokens))
    return TokenRow("r", Task.PRETRAIN, ids, ids, num_loss_tokens=tokens, loss_bytes=0)


def test_steps_hold_the_work_of_their_rows_packed_or_not() -> None:
    rows = [token_row(size) for size in (4, 8, 6)]
    for packed in (False, True):
        passes = pass_work(rows, RowOrder(((0, 1), (2,), (1,)), 2, packed=packed), cost())
        assert [work.tokens for work in passes] == [12, 6, 8]
        assert passes[0] == cost()(4, 4) + cost()(8, 8)
        assert [work.tokens for work in step_work(passes, 2)] == [18, 8]


def test_utilisation_is_work_over_what_was_possible() -> None:
    found = Utilisation((Work(1, 1e12, 2e12), Work(1, 3e12, 4e12)), peak_tflops=2.0)
    assert found.percent(0, 2, 4.0) == (50.0, 75.0)
    assert found.percent(1, 2, 4.0) == (37.5, 50.0)


def test_the_peak_of_this_machine_is_a_speed() -> None:
    assert 1e-4 < matmul_tflops("cpu") < 1e3
