import numpy as np

from data_pipelines.dedup.candidates import ALL_PAIRS_UP_TO, buckets, pairs


def found(hashes, roots=None):
    values = np.array(hashes, np.uint64)
    return list(buckets(values, np.array(range(len(hashes)) if roots is None else roots, np.int32)))


def test_equal_hashes_are_a_bucket_in_ascending_order():
    assert found([7, 3, 7, 9, 3, 7]) == [[1, 4], [0, 2, 5]]
    assert found([1, 2, 3]) == []
    assert found([]) == []


def test_a_bucket_within_one_cluster_is_left_out():
    assert found([7, 3, 7, 3], roots=[0, 1, 0, 3]) == [[1, 3]]


def test_small_buckets_give_all_pairs_and_large_ones_first_and_neighbour():
    assert list(pairs([2, 5, 9])) == [(2, 5), (2, 9), (5, 9)]
    assert len(list(pairs(list(range(ALL_PAIRS_UP_TO))))) == ALL_PAIRS_UP_TO * (ALL_PAIRS_UP_TO - 1) // 2
    large = list(range(ALL_PAIRS_UP_TO + 1))
    assert set(pairs(large)) == {(0, member) for member in large[1:]} | {(m, m + 1) for m in large[1:-1]}
    assert len(list(pairs(large))) == 2 * ALL_PAIRS_UP_TO - 1
