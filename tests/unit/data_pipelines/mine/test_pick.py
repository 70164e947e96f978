from dataclasses import replace

import pytest

from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.pick import pick
from data_pipelines.mine.picks import VERSION, Picks
from data_pipelines.mine.words import identifier_hashes, word_hash


def again(loaded, tasks, **changes):
    extractor = extractor_for(loaded.file.language)
    arguments = {"path": loaded.file.path, "blob": loaded.file.blob, "seed": 0, "tasks": tasks, **changes}
    return pick(loaded.text, units=extractor.units(loaded.text), extractor=extractor, **arguments)


def test_picks_come_back_from_their_bytes_and_are_the_same_each_time(shop_of):
    for loaded in shop_of.files.values():
        content = loaded.picks.to_bytes()
        assert Picks.from_bytes(content) == loaded.picks
        assert again(loaded, shop_of.tasks).to_bytes() == content


def test_every_file_of_every_language_gives_something(shop_of):
    picks = [loaded.picks for loaded in shop_of.files.values()]
    for name in ("infill", "repo_infill", "search_replace", "docstring", "describe", "named", "words"):
        assert any(getattr(item, name) for item in picks), name


def test_seed_path_and_blob_change_the_draws(make_shop):
    shop = make_shop("python", infill={"bytes_per_row": 100, "max_rows_per_file": 3})
    loaded = shop.files["shop/cart.py"]
    others = [again(loaded, shop.tasks, **change) for change in ({"seed": 1}, {"path": "x.py"}, {"blob": "d" * 40})]
    assert len({loaded.picks.infill, *(other.infill for other in others)}) == 4


def test_a_task_that_is_off_has_no_picks_and_leaves_the_others_alone(make_shop):
    shop = make_shop("python")
    off = shop.tasks.model_copy(update={"infill": shop.tasks.infill.model_copy(update={"enabled": False})})
    loaded = shop.files["shop/cart.py"]
    assert replace(again(loaded, off), repo_infill=(), search_replace=()) == replace(
        loaded.picks, infill=(), repo_infill=(), search_replace=()
    )


def test_no_gap_is_picked_for_two_tasks(shop_of):
    for loaded in shop_of.files.values():
        picks = loaded.picks
        spans = [gap.span for gap in (*picks.infill, *picks.repo_infill, *picks.search_replace)]
        assert len(spans) == len(set(spans))


def test_types_and_functions_are_named(make_shop):
    picks = make_shop("java").files["src/main/java/shop/Cart.java"].picks
    assert [item.name for item in picks.types] == ["Cart"]
    assert "addLine" in [item.name for item in picks.named]


def test_picks_of_another_version_are_told(make_shop):
    content = make_shop("python").files["shop/cart.py"].picks.to_bytes()
    with pytest.raises(ValueError, match="version"):
        Picks.from_bytes(bytes([VERSION + 1]) + content[1:])


@pytest.mark.parametrize(
    "content", [b"", b"\x00", bytes([VERSION, 9, 0, 0, 0]) + b"[]", bytes([VERSION + 1, 0, 0, 0, 0])]
)
def test_other_bytes_are_no_picks(content):
    with pytest.raises(ValueError):
        Picks.from_bytes(content)


def test_of_too_many_names_the_most_frequent_are_kept_then_the_first_by_name():
    counts = {b"once": 1, b"return": 9, b"zebra": 2, b"apple": 2, b"thrice": 3, b"mango": 2}
    for names in (counts, dict(reversed(counts.items()))):
        found = identifier_hashes(names, limit=3)
        assert found == tuple(sorted(map(word_hash, (b"thrice", b"apple", b"mango"))))
    assert len(identifier_hashes(counts, limit=5)) == 5
