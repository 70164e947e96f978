"""The queue in front of a store, with a store and a clock that the test holds."""

from collections.abc import Sequence

import pytest

from finetune.tracking.delivery import BATCH_VALUES, RETRY_SECONDS, Delivery, EntryRefused, batches
from finetune.tracking.jsonl import Entry


class FakeStore:
    def __init__(self) -> None:
        self.broken = False
        self.refused: set[int] = set()
        self.applied: list[int] = []
        self.confirmed = 0

    def ready(self, wait_seconds: float) -> None:
        if self.broken:
            raise OSError("database is locked")

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.number in self.refused:
                raise EntryRefused("too long")
            self.applied.append(entry.number)

    def confirm(self, number: int) -> None:
        self.confirmed = number


def metric(number: int, num_values: int = 1) -> Entry:
    return Entry(number, 0, "metrics", {"step": number, "values": {f"v{index}": 1.0 for index in range(num_values)}})


def test_entries_reach_the_store_once_and_in_order() -> None:
    store = FakeStore()
    delivery = Delivery(store)
    delivery.add(metric(1), Entry(2, 0, "describe", {"markdown": ""}), metric(3))
    assert delivery.deliver(now=True)
    assert delivery.deliver(now=True)
    assert (store.applied, store.confirmed) == ([1, 2, 3], 3)


def test_a_failing_store_is_told_of_once_and_tried_again_later(capsys: pytest.CaptureFixture[str]) -> None:
    store, now = FakeStore(), [0.0]
    delivery = Delivery(store, clock=lambda: now[0])
    store.broken = True
    for number in range(1, 4):
        delivery.add(metric(number))
        assert not delivery.deliver()
    assert capsys.readouterr().err.count("The tracking store failed") == 1
    store.broken = False
    assert not delivery.deliver(), "too early"
    now[0] = RETRY_SECONDS + 1
    assert delivery.deliver()
    assert store.applied == [1, 2, 3]
    assert "back" in capsys.readouterr().err


def test_what_the_store_never_takes_is_left_out_and_does_not_block(capsys: pytest.CaptureFixture[str]) -> None:
    store = FakeStore()
    store.refused = {1}
    delivery = Delivery(store)
    delivery.add(Entry(1, 0, "describe", {"markdown": ""}), metric(2))
    assert delivery.deliver(now=True)
    assert (store.applied, store.confirmed) == ([2], 2)
    assert "only in the journal: describe" in capsys.readouterr().err


def test_one_refused_point_does_not_keep_its_neighbours_out() -> None:
    store = FakeStore()
    store.refused = {2}
    delivery = Delivery(store)
    delivery.add(metric(1), metric(2), metric(3))
    assert delivery.deliver(now=True)
    assert (sorted(set(store.applied)), store.confirmed) == ([1, 3], 3)


def test_metrics_share_a_call_up_to_what_the_store_takes() -> None:
    entries = [metric(number, num_values=400) for number in range(1, 6)]
    sizes = [sum(len(entry.points()) for entry in batch) for batch in batches(entries)]
    assert sizes == [800, 800, 400]
    assert max(sizes) <= BATCH_VALUES


def test_any_other_entry_goes_alone() -> None:
    mixed = [metric(1), metric(2), Entry(3, 0, "dataset", {}), metric(4)]
    assert [[entry.number for entry in batch] for batch in batches(mixed)] == [[1, 2], [3], [4]]
