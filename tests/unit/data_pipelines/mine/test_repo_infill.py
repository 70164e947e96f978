from collections import Counter
from dataclasses import replace

import pytest

from data_pipelines.document import Span, Stratum
from data_pipelines.mine.card import FileCard
from data_pipelines.mine.excerpt import RUN_TOKENS, Leak, excerpt
from data_pipelines.mine.picks import Gap
from data_pipelines.mine.ranking import MAX_FILES_PER_WORD, ContextIndex, co_changes, words_near
from data_pipelines.mine.repo_infill import context_of, repo_infill_rows
from data_pipelines.mine.words import IDENTIFIER, identifier_hashes, word_hash
from finetune.contracts.dataset import Role, Task


def card(path, text=b"", **changes):
    facts = {"language": "python", "cluster": path, "imports": (), "defines": (), "num_bytes": 0, "cuts": ()}
    words = identifier_hashes(Counter(IDENTIFIER.findall(text)), limit=99)
    return FileCard(path=path, words=words, is_test=False, **{**facts, **changes})


def ranked(target, *candidates, **options):
    index = ContextIndex([target, *candidates], **options)
    return [found.path for found in index.rank(target, target.words, limit=9)]


def rows_of(shop, path):
    return repo_infill_rows(
        shop.files[path],
        shop.cards[path],
        index=ContextIndex(shop.cards.values()),
        load=shop.load,
        section=shop.tasks.repo_infill,
    )


def text_of(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def test_what_defines_the_names_goes_before_what_shares_them_and_what_lies_near():
    target = card("a/target.py", b"weigh_apple(apple_limit)", imports=("c/imported.py",))
    defines = card("b/defines.py", b"weigh_apple other", defines=("weigh_apple",))
    shares = card("b/shares.py", b"apple_limit unrelated")
    near, far = card("a/near.py"), card("b/far.py", b"nothing here")
    imported = card("c/imported.py")
    assert ranked(target, far, near, shares, defines, imported) == [
        "b/defines.py",
        "b/shares.py",
        "c/imported.py",
        "a/near.py",
    ]


def test_importers_and_files_that_change_together_count():
    target = card("a/target.py")
    importer, partner = card("b/importer.py", imports=("a/target.py",)), card("c/partner.py")
    found = ranked(target, importer, partner, card("d/other.py"), co_changes={"a/target.py": {"c/partner.py": 3}})
    assert set(found) == {"b/importer.py", "c/partner.py"}


def test_neither_the_file_nor_a_twin_of_it_is_ranked():
    target = card("a/target.py", b"weigh_apple", cluster="c1")
    twin = card("a/twin.py", b"weigh_apple", cluster="c1", defines=("weigh_apple",))
    assert ranked(target, twin, card("a/other.py")) == ["a/other.py"]


def test_the_file_itself_is_left_out_whatever_its_cluster():
    target = card("a/target.py", b"weigh_apple")
    index = ContextIndex([target, card("a/other.py")])
    assert [found.path for found in index.rank(replace(target, cluster="x"), target.words, limit=9)] == ["a/other.py"]


def test_a_word_of_too_many_files_speaks_for_none_of_them():
    target = card("a/target.py", b"weigh_apple common_name")
    many = [card(f"b/{n:03}.py", b"common_name") for n in range(MAX_FILES_PER_WORD)]
    assert ranked(target, *many, card("c/shares.py", b"weigh_apple")) == ["c/shares.py"]
    assert ranked(target, *many[1:], card("c/shares.py", b"weigh_apple"))[:2] == ["c/shares.py", "b/001.py"]


def test_words_that_no_file_has_speak_for_none():
    index = ContextIndex([card("a/target.py"), card("b/other.py", b"some_name")])
    wanted = [0, word_hash(b"unknown"), 0xFFFFFFFF]
    assert index.rank(card("a/target.py"), wanted, limit=9) == []
    assert [found.path for found in index.rank(card("a/target.py"), [*wanted, word_hash(b"some_name")], limit=9)] == [
        "b/other.py"
    ]


def test_a_gap_for_which_there_is_nothing_to_show_gives_no_row(make_shop):
    shop = make_shop({"a.py": "".join(f"def total_{n}(cart):\n    return cart.price * {n}\n" for n in range(9))})
    assert shop.files["a.py"].picks.repo_infill
    assert rows_of(shop, "a.py") == []


def test_a_target_over_the_border_of_two_pieces_is_recognised(make_shop):
    shop = make_shop({"a.py": "def wanted(a):\n    return a + 1\n\ndef other(b):\n    return b + 2\n"})
    words = {word_hash(b"wanted"), word_hash(b"other")}
    assert excerpt(shop.files["a.py"], words=words, leak=Leak(b"nothing"), max_bytes=900) is not None
    assert excerpt(shop.files["a.py"], words=words, leak=Leak(b"+ 1\n\ndef other"), max_bytes=900) is None


def test_the_order_of_the_candidates_makes_no_difference(make_shop):
    section = make_shop({}).tasks.repo_infill
    target = card("t.py", b"alpha beta gamma")
    others = [card(f"{name}.py", name.encode()) for name in ("alpha", "beta", "gamma", "delta")]
    limit = section.max_context_files
    one, other = (ContextIndex(files).rank(target, target.words, limit=limit) for files in (others, others[::-1]))
    assert one == other
    assert len(one) == 4


def test_words_come_from_around_the_gap_and_never_from_it():
    text = b"before_name = 1\ngap_name = hidden()\nafter_name = 2\n"
    words = words_near(text, 16, 35)
    assert words == {word_hash(b"before_name"), word_hash(b"after_name")}


def test_co_changes_are_counted_both_ways_and_bounded():
    commits = [("a", "b"), ("a", "b", "c"), tuple(f"f{n}" for n in range(30)), ("a",)]
    assert co_changes(commits) == {"a": {"b": 2, "c": 1}, "b": {"a": 2, "c": 1}, "c": {"a": 1, "b": 1}}
    many = [("hub", f"f{n}") for n in range(500)]
    assert len(co_changes(many)["hub"]) == 32


def test_rows_show_the_imported_file_and_learn_the_gap_alone(shop_of):
    path = next(path for path in shop_of.files if "cart." in path.lower() and not shop_of.cards[path].is_test)
    rows = rows_of(shop_of, path)
    assert rows
    for row in rows:
        assert row.task is Task.REPO_INFILL
        assert [segment.role for segment in row.segments if segment.loss] == [Role.TARGET]
        roles = [segment.role for segment in row.segments]
        assert roles[-3:] == [Role.PREFIX, Role.SUFFIX, Role.TARGET]
        assert set(roles[:-3]) == {Role.CONTEXT}
        whole = text_of(row, Role.PREFIX) + text_of(row, Role.TARGET) + text_of(row, Role.SUFFIX)
        assert whole.encode() == shop_of.files[path].text
        assert path not in {segment.path for segment in row.segments[:-3]}
    assert any("price" in (row.segments[-4].path or "").lower() for row in rows), "the best file is next to the gap"


def test_context_is_pieces_of_its_file_with_their_lines(shop_of):
    for path in shop_of.files:
        for row in rows_of(shop_of, path):
            text = "\n".join(segment.text for segment in row.segments if segment.role is Role.CONTEXT)
            for place in row.provenance[1:]:
                lines = shop_of.files[place.path].text.decode().split("\n")[place.first_line - 1 : place.last_line]
                assert "\n".join(lines).strip() in text


def test_no_context_shows_the_target(make_shop):
    body = "    total = sum(weight * price for weight, price in sorted(items.values()))\n    return round(total, 2)\n"
    files = {
        "a.py": f"from b import helper, price_of_all\n\ndef price_of(items):\n{body}",
        "b.py": f"def helper(items):\n    items.prepare()\n    return items\n\n\ndef price_of_all(items):\n{body}",
        "c.py": "def price_of_none(items):\n    return helper(items)\n",
    }
    shop = make_shop(files, repo_infill={"max_rows_per_file": 9, "strata": {"block": 1, "random": 0}})
    rows = rows_of(shop, "a.py")
    assert rows
    for row in rows:
        shown = text_of(row, Role.CONTEXT)
        assert "def helper" in shown, "the rest of the file is shown"
        assert "price_of_all" not in shown
        assert "total = sum" not in shown


@pytest.mark.parametrize("target", [b"run(a,  b)\n", b"a b c d e f g h i j k l"])
def test_a_target_is_recognised_whatever_its_white_space(target):
    shown = b"x = 1\n  " + b" \n ".join(target.split()) + b"\ny = 2\n"
    assert Leak(target).shows(shown)
    assert not Leak(target).shows(b"x = 1\ny = 2\n")


def test_a_part_of_the_target_is_recognised_from_ten_tokens():
    target = b" ".join(b"t%d" % n for n in range(30))
    shown = b" ".join(target.split()[5 : 5 + RUN_TOKENS])
    assert Leak(target).shows(shown)
    assert not Leak(target).shows(b" ".join(shown.split()[1:]))


def test_definitions_that_are_used_come_before_the_head(make_shop):
    shop = make_shop({"a.py": "import os\n" + "x = 1\n" * 300 + "def wanted(a):\n    return a + 1\n"})
    found = excerpt(shop.files["a.py"], words={word_hash(b"wanted")}, leak=Leak(b"nothing of it"), max_bytes=200)
    assert found is not None
    assert found.text.decode().endswith("def wanted(a):\n    return a + 1\n")
    assert found.text.startswith(b"import os\n")
    assert len(found.text) <= 200
    assert found.lines[-1] == (302, 303)


def test_limits_of_files_and_bytes(make_shop):
    files = {
        f"m{n}.py": f"def weigh_{n}(apple):\n" + f"    apple += {n}\n" * 99 + "    return apple\n" for n in range(9)
    }
    calls = "".join(f"weigh_{n}(apple)\n" for n in range(9))
    files["a.py"] = f"apple = 5\n{calls}banana = apple + 77\nprint(banana)\n"
    limits = {"max_context_files": 3, "max_context_bytes": 500, "max_total_context_bytes": 1200}
    shop = make_shop(files, repo_infill=limits)
    start = files["a.py"].index("banana")
    shown = context_of(
        shop.files["a.py"],
        shop.cards["a.py"],
        gap=Gap(Span(start, start + 19), Stratum.LINE),
        index=ContextIndex(shop.cards.values()),
        load=shop.load,
        section=shop.tasks.repo_infill,
    )
    assert [len(part.text) <= 500 for part in shown] == [True] * 3
    assert sum(len(part.text) for part in shown) <= 1200
