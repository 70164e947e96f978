import random

import pytest

from data_pipelines.dedup.clusters import NearTable
from data_pipelines.dedup.minhash import bands_of
from data_pipelines.dedup.shingles import jaccard, shingles
from finetune.contracts.errors import DatasetError


def words(start, count):
    return " ".join(f"word{number} =" for number in range(start, start + count)).encode()


def clusters(texts, threshold=0.7, path=None, order=None):
    with NearTable(path) as table:
        for unit in order or range(len(texts)):
            table.add(unit, bands_of(texts[unit]))
        return table.clusters(texts.__getitem__, threshold=threshold)


def similarity(one, other):
    return jaccard(shingles(one), shingles(other))


def chain(steps, *, shift=40, count=400):
    """Texts of which neighbours are 0.8 alike, the next but one 0.66, and the ends nothing."""
    return [words(shift * place, count) for place in range(steps)]


def test_near_duplicates_share_a_cluster_and_others_do_not():
    base = words(0, 400)
    texts = [base, words(1000, 400), base + b" tail = 1", words(200, 400), base]
    found = clusters(texts)
    assert found.units.tolist() == [0, 1, 2, 3, 4]
    assert found.representatives.tolist() == found.components.tolist() == [0, 1, 0, 3, 0]


def test_a_shared_band_alone_joins_nothing():
    """0.6 alike: most such pairs share a band, and none may be joined below the threshold."""
    texts = [words(start, 400) for pair in range(20) for start in (pair * 1000, pair * 1000 + 100)]
    assert 0.55 < similarity(texts[0], texts[1]) < 0.65
    assert clusters(texts).components.tolist() == list(range(40))
    assert len(set(clusters(texts, threshold=0.5).components.tolist())) < 36


def test_chains_do_not_grow_and_every_member_is_a_twin_of_its_representative():
    texts = chain(8)
    assert similarity(texts[0], texts[1]) > 0.7 > similarity(texts[0], texts[2])
    found = clusters(texts)
    assert found.components.tolist() == [0] * 8
    assert found.representatives.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_random_families_keep_to_the_rules():
    """Against all pairs compared: components join exactly what verified pairs connect, clusters keep to the head."""
    draw = random.Random(5)
    texts = [words(draw.randrange(12) * 30 + family * 5_000, 300) for family in range(8) for _ in range(9)]
    found = clusters(texts)
    for unit, (head, component) in enumerate(zip(found.representatives, found.components, strict=True)):
        assert component <= head <= unit
        assert found.components[head] == component
        assert found.representatives[head] == head
        assert head == unit or similarity(texts[head], texts[unit]) >= 0.7
    for one, first in enumerate(texts):
        for other in range(one):
            if similarity(first, texts[other]) > 0.85:
                assert found.components[one] == found.components[other]


@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_the_order_of_adding_does_not_matter(threshold):
    texts = chain(12) + [words(0, 400)] * 20 + chain(6, shift=30)
    expected = clusters(texts, threshold)
    for seed in range(3):
        order = list(range(len(texts)))
        random.Random(seed).shuffle(order)
        found = clusters(texts, threshold, order=order)
        assert found.representatives.tolist() == expected.representatives.tolist()
        assert found.components.tolist() == expected.components.tolist()


def test_at_one_only_equal_texts_are_twins():
    base = words(0, 100)
    # in a bucket of many, equal texts are found wherever they lie
    variants = [base + b" " * spaces for spaces in range(1, 30)]
    texts = [base, *variants, base, variants[11]]
    found = clusters(texts, threshold=1.0)
    assert found.representatives.tolist() == [*range(30), 0, 12]
    assert clusters(texts, threshold=0.99).representatives.tolist() == [0] * 32


def test_large_buckets_are_compared_in_linear_time():
    reads = []

    def read(unit):
        reads.append(unit)
        return words(0, 50) + b" x" * (unit % 7)

    with NearTable() as table:
        for unit in range(3_000):
            table.add(unit, bands_of(words(0, 50)))
        assert not table.clusters(read, threshold=0.7).representatives.any()
    assert len(reads) == 3_000


def test_no_texts_and_empty_texts():
    assert clusters([]).representatives.tolist() == []
    assert clusters([], threshold=1.0).representatives.tolist() == []
    for threshold in (0.7, 1.0):
        assert clusters([b"", b"a b c d e f", b""], threshold).representatives.tolist() == [0, 1, 0]


def test_a_later_run_reads_only_what_is_new(tmp_path):
    texts = chain(8)
    before = clusters(texts, path=tmp_path / "near.sqlite")
    reads = []

    def read(unit):
        reads.append(unit)
        return texts[unit]

    with NearTable(tmp_path / "near.sqlite") as table:
        again = table.clusters(read, threshold=0.7)
        assert reads == []
        assert again.representatives.tolist() == before.representatives.tolist()
        texts.append(texts[5] + b" new")
        table.add(8, bands_of(texts[8]))
        assert table.clusters(read, threshold=0.7).components[8] == 0
    assert set(reads) < set(range(9))
    assert clusters(texts).representatives.tolist() == clusters(texts, path=tmp_path / "x").representatives.tolist()


def test_removed_units_leave_no_trace_and_numbers_may_have_gaps():
    texts = [*chain(3), words(0, 400)]
    with NearTable() as table:
        for unit, text in enumerate(texts):
            table.add(10 * unit, bands_of(text))
        assert table.clusters(lambda unit: texts[unit // 10], threshold=0.7).components.tolist() == [0, 0, 0, 0]
        table.remove([0, 10, 999])
        found = table.clusters(lambda unit: texts[unit // 10], threshold=0.7)
    assert found.units.tolist() == [20, 30]
    assert found.representatives.tolist() == [20, 30]


def test_an_error_inside_the_block_keeps_nothing(tmp_path):
    path = tmp_path / "near.sqlite"
    with pytest.raises(ZeroDivisionError), NearTable(path) as table:
        table.add(1, bands_of(b"x"))
        raise ZeroDivisionError
    with NearTable(path) as table:
        assert table.clusters(lambda unit: b"", threshold=0.7).units.tolist() == []


def test_a_file_of_another_version_or_no_database_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "near.sqlite"
    clusters([b"a"], path=path)
    monkeypatch.setattr("data_pipelines.dedup.store.SIGNATURE", "another/v9")
    with pytest.raises(DatasetError, match="made by .*another/v9.*Delete the file"):
        NearTable(path)
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(DatasetError, match="cannot be used as a near-duplicate table"):
        NearTable(path)


def test_pairs_that_are_known_from_elsewhere_are_not_compared_again():
    texts = chain(3)
    with NearTable() as table:
        for unit, text in enumerate(texts):
            table.add(unit, bands_of(text))
        first = table.clusters(texts.__getitem__, threshold=0.7)
        known = list(table.compared())
    reads = []

    def read(unit):
        reads.append(unit)
        return texts[unit]

    with NearTable() as table:
        table.offer(known)
        for unit, text in enumerate(texts):
            table.add(unit, bands_of(text))
        assert table.clusters(read, threshold=0.7).components.tolist() == first.components.tolist() == [0, 0, 0]
        assert list(table.compared()) == known
    assert known
    assert reads == []
