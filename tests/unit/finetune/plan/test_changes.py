"""What is proposed when a recipe does not fit: cheapest first, each planned anew, together enough."""

from dataclasses import replace

from finetune.contracts.adapter import Quantization
from finetune.plan.changes import carriers, changes_that_fit, longest_row, peak
from finetune.plan.machine import Card, parse_card
from finetune.plan.memory import Workload
from finetune.plan.shape import LinearMaps, ModelShape

CARD = parse_card("24GiB")


def settings(shape: ModelShape, work: Workload, card: Card = CARD) -> list[str]:
    return [text for change in changes_that_fit(shape, work, card) for text in change.sets]


def test_the_cheapest_change_that_is_enough_comes_alone(shape: ModelShape, work: Workload) -> None:
    assert settings(shape, replace(work, row_tokens=6144)) == ["train.activation_offload=true"]


def test_changes_come_in_order_of_cost_and_the_last_one_fits(shape: ModelShape, work: Workload) -> None:
    changes = changes_that_fit(shape, replace(work, row_tokens=32_768, eval_rows=8), CARD)
    names = [change.sets[0].partition("=")[0] for change in changes]
    assert names == [
        "evaluate.batch_rows", "train.activation_offload", "base.embedding_on_host", "data.max_tokens"
    ]  # fmt: skip
    assert [change.peak <= CARD.usable_bytes for change in changes] == [False, False, False, True]
    assert all(change.saves > 0 for change in changes)


def test_the_last_figure_is_that_of_a_plan_with_all_changes(shape: ModelShape, work: Workload) -> None:
    *_, last = changes_that_fit(shape, replace(work, row_tokens=32_768), CARD)
    tokens = int(last.sets[0].partition("=")[2])
    changed = replace(work, row_tokens=tokens, offload=True, embedding_on_host=True)
    assert (
        last.peak == peak(shape, changed) <= CARD.usable_bytes < peak(shape, replace(changed, row_tokens=tokens + 256))
    )


def test_a_smaller_micro_batch_keeps_the_rows_of_a_step(shape: ModelShape, work: Workload) -> None:
    found = settings(shape, replace(work, micro_batch=4, accumulation=4, row_tokens=2048))
    assert found[:2] == ["train.micro_batch=1", "train.accumulation=16"]


def test_16_bit_is_quantised_before_rows_are_cropped(shape: ModelShape, work: Workload) -> None:
    found = settings(shape, replace(work, quantization=Quantization.NONE, row_tokens=2048))
    assert found[-1] == "base.quantization=nf4"


def test_a_16_bit_base_on_several_cards_is_sharded_before_it_is_quantised(shape: ModelShape, work: Workload) -> None:
    plain = replace(work, quantization=Quantization.NONE, row_tokens=2048, embedding_on_host=True, offload=True)
    assert settings(shape, replace(plain, cards=8)) == ["train.sharding=fsdp2"]
    assert settings(shape, replace(plain, cards=2))[-3:] == [
        "train.sharding=fsdp2",
        "base.quantization=nf4",
        "train.sharding=none",
    ]


def test_a_tied_embedding_is_not_moved(shape: ModelShape, work: Workload) -> None:
    tied = replace(shape, tied=True)
    assert "base.embedding_on_host=true" not in settings(tied, replace(work, row_tokens=65_536))


def test_a_change_that_is_made_already_is_not_proposed(shape: ModelShape, work: Workload) -> None:
    assert settings(shape, replace(work, offload=True, row_tokens=12_288))[0] == "base.embedding_on_host=true"


def test_a_rank_is_lowered_only_where_nothing_else_is_enough(shape: ModelShape, work: Workload) -> None:
    found = settings(shape, replace(work, rank=512))
    assert found[-1].startswith("lora.rank=") or found[-2].startswith("lora.rank=")


def test_the_longest_row_is_the_last_multiple_that_fits(shape: ModelShape, work: Workload) -> None:
    tokens = longest_row(shape, work, CARD)
    assert tokens % 256 == 0
    assert peak(shape, replace(work, row_tokens=tokens)) <= CARD.usable_bytes
    assert peak(shape, replace(work, row_tokens=tokens + 256)) > CARD.usable_bytes
    assert longest_row(shape, work, parse_card("16GiB")) == 0


def test_what_no_change_makes_fit_is_told_what_carries_it(shape: ModelShape, work: Workload) -> None:
    huge = replace(
        shape, maps=(*shape.maps, LinearMaps("experts.gate_up_proj", 4096, 3072, 60, experts=512, active=10))
    )
    card = parse_card("H200")
    assert changes_that_fit(huge, work, card) == ()
    found = {(row.cards, row.name, row.quantization) for row in carriers(huge, work)}
    assert (7, "H200", "none") in found  # 827 GB over 127 GB each
    assert not any(row.cards == 1 for row in carriers(huge, work))
    # a 4-bit base is not shared over cards
    assert all(row.quantization == "none" for row in carriers(huge, work) if row.cards > 1)


def test_single_cards_carry_the_recipe_as_it_is(shape: ModelShape, work: Workload) -> None:
    found = carriers(shape, replace(work, row_tokens=2048))
    assert {row.name for row in found if row.cards == 1} == {
        "3090", "4090", "5090", "A100-40GB", "L40S", "A100-80GB", "H100", "H200"
    }  # fmt: skip


def test_a_change_that_helps_no_phase_that_is_too_large_is_passed_over(shape: ModelShape, work: Workload) -> None:
    # only generated text is too much, and that keeps no checkpoints
    assert settings(shape, replace(work, new_tokens=68_000)) == ["base.embedding_on_host=true"]
