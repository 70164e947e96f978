from data_pipelines.report.charts import MAX_BARS, size, timeline
from data_pipelines.report.survey import NO_MONTH


def test_columns_stand_on_each_other_and_the_cut_is_where_it_is():
    months = {"2025-11": {"train": 6, "novel": 2}, "2026-02": {"evolving": 4}, NO_MONTH: {"train": 3}}
    chart = timeline(months, "2026-02")
    assert (chart.first, chart.last, chart.cut, chart.highest, chart.undated) == ("2025-11", "2026-02", 3, 8, 3)
    assert [len(bar.parts) for bar in chart.bars] == [2, 0, 0, 1]
    train, novel = chart.bars[0].parts
    assert (train.top, train.height, novel.top, novel.height) == (25, 75, 0, 25)
    assert chart.bars[0].label == "2025-11: 6 train, 2 novel"


def test_a_long_history_gets_wider_columns_and_loses_no_row():
    months = {f"{year}-{month:02d}": {"train": 1} for year in range(1990, 2027) for month in range(1, 13)}
    chart = timeline(months, NO_MONTH)
    assert (len(chart.bars) <= MAX_BARS, chart.cut, chart.highest) == (True, None, chart.months_per_bar)
    assert sum(int(bar.label.split(": ")[1].split()[0]) for bar in chart.bars) == 12 * 37


def test_no_dated_row_gives_no_chart():
    assert timeline({NO_MONTH: {"train": 3}}, "2026-02").bars == ()


def test_sizes_read_as_a_person_writes_them():
    assert [size(number) for number in (0, 999, 1000, 1_234_000, 5 * 10**9)] == [
        "0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB",
    ]  # fmt: skip
