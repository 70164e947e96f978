from data_pipelines.report.lengths import Lengths, shared_range


def test_percentiles_are_right_to_within_a_bin():
    lengths = Lengths()
    values = [number * number + 1 for number in range(1000)]
    for value in values:
        lengths.add(value)
    for share in (0.1, 0.5, 0.9, 0.99):
        exact = sorted(values)[round(share * 1000) - 1]
        assert abs(lengths.percentile(share) - exact) <= 0.022 * exact + 1
    assert (lengths.num_rows, lengths.total, lengths.largest) == (1000, sum(values), values[-1])
    assert lengths.percentile(1.0) <= lengths.largest


def test_no_row_and_empty_rows():
    lengths = Lengths()
    assert (lengths.percentile(0.5), lengths.doublings(), shared_range([lengths])) == (0, {}, range(0))
    lengths.add(0)
    assert (lengths.percentile(0.5), lengths.doublings()) == (0, {0: 1})


def test_doublings_count_every_row_once():
    lengths = Lengths()
    for value in (1, 2, 3, 4, 100, 127, 128):
        lengths.add(value)
    assert lengths.doublings() == {0: 1, 1: 2, 2: 1, 6: 2, 7: 1}
    assert shared_range([lengths]) == range(0, 8)
