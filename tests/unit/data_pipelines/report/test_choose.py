import random

from data_pipelines.report.choose import ROWS_PER_TASK, Cell, Choice, Place


def offers():
    common = [(Cell("go", "api", "block", "train"), Place(f"{number:03d}", "a", number)) for number in range(200)]
    rare = [(Cell(name, "shop", "line", "novel"), Place(f"9{name}", "b", 0)) for name in ("c", "php", "sql")]
    return common + rare


def chosen(pairs):
    choice = Choice()
    for cell, place in pairs:
        choice.offer("infill", cell, place)
    return choice.of_task("infill")


def test_rare_languages_are_shown_and_the_order_of_the_rows_does_not_matter():
    pairs = offers()
    first = chosen(pairs)
    random.Random(3).shuffle(pairs)
    assert chosen(pairs) == first
    assert len(first) == ROWS_PER_TASK
    assert {place.id for place in first} >= {"9c", "9php", "9sql"}


def test_of_one_cell_the_lowest_ids_are_shown():
    pairs = [pair for pair in offers() if pair[0].language == "go"]
    assert [place.id for place in chosen(pairs)] == [f"{number:03d}" for number in range(ROWS_PER_TASK)]


def test_a_task_without_rows_shows_none():
    assert Choice().of_task("qa") == []
