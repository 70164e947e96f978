import numpy as np
import pytest

from data_pipelines.dedup.minhash import NUM_BANDS
from data_pipelines.dedup.store import ROWS_AT_ONCE, BandStore


@pytest.fixture
def store():
    made = BandStore(None)
    yield made
    made.close()


def bands(unit):
    """Made-up bands: the hash of band b is 1000 * unit + b."""
    return (np.arange(NUM_BANDS, dtype="<u8") + np.uint64(1000 * unit)).tobytes()


def test_columns_come_by_ascending_unit_whatever_the_order_of_adding(store):
    for unit in (7, 2, 9):
        store.add(unit, bands(unit))
    assert store.units().tolist() == [2, 7, 9]
    columns = list(store.columns())
    assert len(columns) == NUM_BANDS
    assert [column.tolist() for column in columns] == [[2000 + b, 7000 + b, 9000 + b] for b in range(NUM_BANDS)]
    assert next(store.columns(np.array([2, 9]))).tolist() == [2000, 9000]


def test_more_units_than_are_written_at_once(store):
    count = 2 * ROWS_AT_ONCE + 5
    for unit in range(count):
        store.add(unit, bands(unit))
    assert next(store.columns()).tolist() == [1000 * unit for unit in range(count)]


def test_a_unit_that_is_there_stays_as_it_is(store):
    store.add(3, bands(3))
    store.add(3, bands(4))
    assert next(store.columns()).tolist() == [3000]


def test_what_was_compared_is_forgotten_with_either_unit(store):
    for one, other in ((1, 2), (1, 3), (2, 3)):
        store.keep(one, other, 0.5)
    store.remove([2])
    assert store.similarity(1, 2) is store.similarity(2, 3) is None
    assert store.similarity(1, 3) == 0.5


def test_nothing_survives_without_commit_and_everything_with(tmp_path):
    for committed in (False, True):
        store = BandStore(tmp_path / "bands")
        store.add(1, bands(1))
        store.keep(0, 1, 0.25)
        if committed:
            store.commit()
        store.close()
        again = BandStore(tmp_path / "bands")
        assert (again.units().tolist(), again.similarity(0, 1)) == (([1], 0.25) if committed else ([], None))
        again.close()
