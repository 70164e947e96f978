"""Cards by name and by size."""

import pytest

from finetune.contracts.errors import UsageError
from finetune.plan.machine import GIB, parse_card, recognise, smallest_sold_as


@pytest.mark.parametrize("text", ["4090", "rtx 4090", "RTX4090", "GeForce RTX 4090", "NVIDIA GeForce RTX 4090"])
def test_a_name_may_be_written_as_people_write_it(text: str) -> None:
    assert parse_card(text).name == "4090"


def test_the_two_a100_differ() -> None:
    assert (parse_card("a100-40").memory_mib, parse_card("A100 80GB").memory_mib) == (40_960, 81_920)


@pytest.mark.parametrize(
    ("text", "memory_mib"), [("24GiB", 24_564), ("24gb", 24_564), ("48 GiB", 49_152), ("16.5GiB", 16_896)]
)
def test_a_size_is_a_card_of_unknown_speed(text: str, memory_mib: int) -> None:
    card = parse_card(text)
    assert (card.memory_mib, card.peak_tflops) == (memory_mib, None)


@pytest.mark.parametrize(("gigabytes", "memory_mib"), [(24, 24_564), (48, 46_068), (80, 81_559)])
def test_of_the_cards_sold_with_so_much_the_smallest_counts(gigabytes: int, memory_mib: int) -> None:
    assert smallest_sold_as(gigabytes).memory_mib == memory_mib


def test_a_size_that_no_card_is_sold_with_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="with 12 GB") as caught:
        smallest_sold_as(12)
    assert "24, 32, 40, 48, 80, 141" in caught.value.hint


def test_one_gib_is_left_alone() -> None:
    assert parse_card("24GiB").usable_bytes == 24_564 * 2**20 - GIB


@pytest.mark.parametrize("text", ["T1000", "24", "GiB", ""])
def test_anything_else_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(UsageError, match="neither a card") as caught:
        parse_card(text)
    assert "4090" in caught.value.hint


def test_the_card_of_this_machine_is_recognised_by_the_drivers_name() -> None:
    assert recognise("NVIDIA A100-SXM4-80GB", 81_251).peak_tflops == 312.0
    assert recognise("NVIDIA H100 80GB HBM3", 81_559).peak_tflops == 989.0
    assert recognise("Tesla T4", 15_360).peak_tflops is None
