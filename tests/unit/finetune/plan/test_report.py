"""The plan of several cards."""

from dataclasses import replace

import pytest

from finetune.plan.machine import parse_card
from finetune.plan.memory import Workload
from finetune.plan.report import make_plan
from finetune.plan.shape import ModelShape


def test_each_of_several_cards_needs_all_and_the_time_is_divided(shape: ModelShape, work: Workload) -> None:
    one, four = (
        make_plan(shape, replace(work, cards=cards), parse_card("4090"), recipe="x", num_tokens=10_000_000)
        for cards in (1, 4)
    )
    assert four.phases == one.phases
    assert four.time.hours is not None
    assert one.time.hours is not None
    assert [4 * hours for hours in four.time.hours] == pytest.approx(one.time.hours, rel=0.01)
    told = [note for note in four.notes if note.startswith("Each of the 4 cards needs all of this")]
    assert len(told) == 1
    assert not any("cards needs" in note for note in one.notes)
