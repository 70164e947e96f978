import random

import pytest

from data_pipelines.document import NamedFunction, Span
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.order import components, pretrain_packs
from data_pipelines.mine.pretrain import PartText, cut_places, parts_of, pretrain_row
from finetune.contracts.dataset import Role


def packs_of(shop, max_bytes):
    return list(pretrain_packs(shop.cards.values(), max_bytes=max_bytes))


def test_imports_come_first_group_by_group():
    imports = {"a": ["b", "c"], "b": ["c"], "c": [], "d": ["e"], "e": [], "alone": []}
    assert components(imports) == [["c", "b", "a"], ["alone"], ["e", "d"]]


def test_a_cycle_is_entered_where_the_least_is_missing():
    imports = {"a": ["b", "x"], "b": ["c"], "c": ["a"], "x": ["a", "b"]}
    (order,) = components(imports)
    assert order[0] == "b"
    assert sorted(order) == ["a", "b", "c", "x"]
    assert components({"a": ["a"]}) == [["a"]]


def test_the_order_depends_on_names_and_imports_alone():
    names = [f"m{n:02}" for n in range(60)]
    draw = random.Random(3)
    imports = {name: draw.sample(names, 2) for name in names}
    shuffled = dict(draw.sample(sorted(imports.items()), len(imports)))
    assert components(imports) == components({name: others[::-1] for name, others in shuffled.items()})
    assert sorted(path for group in components(imports) for path in group) == names


def test_each_file_is_in_one_row_whole_and_after_what_it_imports(shop_of):
    (parts,) = packs_of(shop_of, 64_000)
    paths = [part.path for part in parts]
    assert sorted(paths) == sorted(shop_of.files)
    for path in paths:
        for imported in shop_of.cards[path].imports:
            assert paths.index(imported) < paths.index(path)
    row = pretrain_row(
        [PartText(shop_of.files[p.path].file, shop_of.files[p.path].text, p.start, p.end) for p in parts]
    )
    assert [segment.text.encode() for segment in row.segments] == [shop_of.files[path].text for path in paths]
    assert [segment.path for segment in row.segments] == paths == [place.path for place in row.provenance]
    assert all(segment.loss and segment.role is Role.TARGET for segment in row.segments)


def test_rows_hold_as_much_as_fits_and_never_two_languages(make_shop):
    files = {f"m{n}.py": "x = 1\n" * 50 for n in range(10)} | {"a.go": "package a\n\nvar x = 1\n" * 1}
    packs = packs_of(make_shop(files), 1000)
    assert [[part.path for part in parts] for parts in packs] == [
        ["a.go"],
        ["m0.py", "m1.py", "m2.py"],
        ["m3.py", "m4.py", "m5.py"],
        ["m6.py", "m7.py", "m8.py"],
        ["m9.py"],
    ]


def test_a_large_file_is_cut_above_functions_and_nothing_of_it_is_lost(make_shop):
    text = "".join(f"def weigh_{n}(apple):\n    # ü\n    return apple + {n}\n\n\n" for n in range(100))
    shop = make_shop({"a.py": text, "b.py": "x = 1\n" * 20}, pretrain={"max_bytes": 700})
    packs = packs_of(shop, 700)
    parts = [part for pack in packs for part in pack if part.path == "a.py"]
    pieces = [text.encode()[part.start : part.end] for part in parts]
    assert b"".join(pieces) == text.encode()
    assert len(pieces) > 5
    assert all(piece.startswith(b"def weigh_") and len(piece) <= 700 for piece in pieces)


@pytest.mark.parametrize(("text", "max_bytes"), [("ü" * 700, 501), ("x = 1\n" * 300, 500), ("a" * 1200, 500)])
def test_without_functions_lines_decide_and_without_lines_characters(text, max_bytes):
    content = text.encode()
    parts = parts_of("a", len(content), cut_places(content, named=(), max_bytes=max_bytes))
    pieces = [content[part.start : part.end] for part in parts]
    assert "".join(piece.decode() for piece in pieces) == text
    assert all(0 < len(piece) <= max_bytes for piece in pieces)
    assert all(piece.endswith(b"\n") for piece in pieces) or "\n" not in text


def test_a_function_at_every_border_is_found_in_one_pass():
    text = b"def f(): pass\n" * 5000
    named = [NamedFunction("f", Span(14 * n, 14 * n + 13)) for n in range(5000)]
    cuts = cut_places(text, named=named, max_bytes=1000)
    assert cuts == tuple(range(994, len(text), 994))
    assert extractor_for("python").parses(text[cuts[0] : cuts[1]])


def test_a_function_near_the_start_is_no_reason_for_a_small_part():
    text = b"def f():\n    x = 1\n" + b"    y = 2\n" * 100
    named = [NamedFunction("f", Span(0, len(text))), NamedFunction("g", Span(10, 20))]
    cuts = cut_places(text, named=named, max_bytes=500)
    assert cuts[0] > 480
