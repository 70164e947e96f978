import re

import numpy as np
import pytest

from data_pipelines.dedup.shingles import distinct
from data_pipelines.split import leakage
from data_pipelines.split.grams import runs_of, write_words
from data_pipelines.split.leakage import (
    Marks,
    Train,
    asked,
    change_keys,
    change_words,
    check_gate,
    code,
    leaks,
    requests_of,
    taught_texts,
)
from finetune.contracts.dataset import Role, Segment
from finetune.contracts.edit_blocks import Block, write_blocks
from finetune.contracts.errors import DatasetError

TOKENS = [f"t{place}" for place in range(30)]


def gap(prefix, target, suffix, *context):
    return (
        *(Segment(role=Role.CONTEXT, text=text) for text in context),
        Segment(role=Role.PREFIX, text=prefix),
        Segment(role=Role.SUFFIX, text=suffix),
        Segment(role=Role.TARGET, text=target, loss=True),
    )


def answer(text, shown=""):
    return (Segment(role=Role.INSTRUCTION, text=shown), Segment(role=Role.ANSWER, text=text, loss=True))


def text(first, last):
    return "".join(f"{token} " for token in TOKENS[first:last])


def taught(segments):
    return distinct(runs_of(taught_texts(segments)))


def in_train(novel, *train):
    return np.isin(asked(novel), np.concatenate([taught(row) for row in train])).any()


def edit(path, *blocks):
    return write_blocks(path, [Block(*block) for block in blocks])


@pytest.fixture
def train(tmp_path):
    def build(*, runs=(), functions=(), changes=()):
        written = {}
        for kind, arrays in (("runs", runs), ("functions", functions), ("changes", changes)):
            path = tmp_path / f"train-00000.{kind}"
            write_words(path, arrays)
            written[kind] = [path]
        return Train(**written)

    return build


def test_a_long_target_leaks_by_ten_tokens_and_not_by_nine():
    novel = gap("before", text(0, 12), "after")
    assert in_train(novel, answer("x " + text(1, 11) + " y"))
    assert not in_train(novel, answer("x " + text(1, 10) + " y"))


def test_the_surroundings_of_a_long_target_are_free():
    assert not in_train(gap(text(0, 10), text(10, 20), text(20, 30)), answer(text(0, 19)), answer(text(11, 30)))


def test_a_short_target_is_judged_with_its_surroundings():
    novel = gap(text(0, 10), text(10, 12), text(12, 30))
    assert in_train(novel, answer(text(5, 15)))
    assert in_train(novel, answer(text(10, 20)))
    assert not in_train(novel, answer(text(0, 11)), answer(text(11, 30))), "nowhere does the whole target occur"


def test_a_target_that_cuts_a_token_is_judged_by_the_whole_token():
    novel = gap("a b c d e f g h i wor", "d", " j k l m n o p q r")
    assert in_train(novel, answer("b c d e f g h i word j"))
    assert not in_train(novel, answer("b c d e f g h i d j"))


def test_a_short_answer_leaks_when_an_answer_is_the_same():
    assert in_train(answer("Return the name."), answer("Return the  name ."))
    assert not in_train(answer("Return the name."), answer("Return the name. And more of the same kind."))


def test_a_target_without_tokens_asks_for_nothing():
    assert len(asked(gap("a", " \n", "b"))) == 0


@pytest.mark.parametrize(
    "row", [gap(text(5, 12), text(12, 14), text(14, 20)), gap("", "x", "", text(0, 30)), answer("x", text(0, 30))]
)
def test_train_teaches_context_and_instructions_too_and_over_the_edges_of_a_gap(row):
    assert in_train(answer(text(6, 18)), row)


def test_the_frame_of_blocks_is_no_text():
    one = answer(edit("src/a.py", ("import os\n", "import os\nimport re\n"), ("x = 1\n", "")))
    other = answer(edit("src/a.py", ("def f():\n", "def g():\n"), ("y = 2\n", "")))
    assert not in_train(one, other)
    assert code(one[1]) == ["import os\n", "import os\nimport re\n", "x = 1\n"]
    assert code(Segment(role=Role.ANSWER, text="<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n")) == ["a\n", "b\n"]


def test_a_divider_outside_of_a_block_is_text():
    title = "Title\n=======\nwith <<<<<<< SEARCH inside\n"
    assert code(Segment(role=Role.CONTEXT, text=title)) == [title]


def test_a_picked_change_is_the_same_change():
    one = change_keys((), [("src/a.py", Block("x = 1\n\ny = 2\n", "x = 1\n\ny = 3\n"))], repo="r", commit="1")
    other = change_keys((), [("lib/a.py", Block("  y =  2\nz\n", "  y =  3\nz\n"))], repo="s", commit="2")
    assert len(set(one) & set(other)) == 1
    third = change_keys((), [("lib/b.py", Block("y = 2\n", "y = 3\n"))], repo="s", commit="3")
    assert not set(other) & set(third)


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("Fix it (#12)", "12"),
        ("Fix\n\nCloses #12.", "12"),
        ("Merge !12", "12"),
        ("GH-12: fix", "12"),
        ("[AB-12] Fix", "AB-12"),
    ],
)
def test_a_request_is_known_by_its_number_and_repository(message, number):
    assert f"request:r:{number}" in change_keys(requests_of(message), [], repo="r", commit="1")
    assert f"request:r:{number}" not in change_keys(requests_of(message), [], repo="s", commit="1")


def test_what_only_looks_like_a_number_is_none():
    requests = requests_of("Use &#12; a#12 and UTF-8 in X-12")
    assert requests == ()
    assert change_keys(requests, [], repo="r", commit="1") == ("commit:1",)


def test_each_kind_of_leak_is_told(train):
    runs, functions = taught(answer(text(0, 20))), np.array([7], np.uint64)
    changes = change_words(["commit:1"])
    known = train(runs=[runs], functions=[functions], changes=[changes])
    clean = Marks(asked(answer("nothing of this is known")), np.array([8], np.uint64), change_words(["commit:2"]))
    rows = [
        clean,
        Marks(asked(answer(text(3, 15))), functions),
        Marks(clean.runs, functions),
        Marks(clean.runs, clean.functions, changes),
    ]
    assert leaks(rows, known) == [
        "",
        "10 tokens in a row are in train",
        "a function equal but for its name is in train",
        "the same change, commit or request is in train",
    ]
    assert leaks([], known) == []


def test_the_gate_lets_a_novel_row_pass_and_stops_the_build_for_any_other(train):
    known = train(runs=[taught(answer(text(0, 20)))])
    clean, leaking = Marks(asked(answer("all of it new"))), Marks(asked(answer(text(2, 14))))
    check_gate([("a", clean)], known)
    check_gate([], known)
    with pytest.raises(
        DatasetError, match=r"Leakage gate: 1 of 2 rows .* Row b: 10 tokens .* train-00000.runs"
    ) as caught:
        check_gate([("a", clean), ("b", leaking)], known)
    assert "Run the same command" in caught.value.hint


def test_the_gate_does_not_trust_the_filter(train, monkeypatch):
    """A build whose filter lets everything through is stopped."""
    known = train(runs=[taught(answer(text(0, 20)))])
    rows = [("a", Marks(asked(answer(text(2, 14)))))]

    def build(filter_rows):
        novel = [
            row
            for row, reason in zip(rows, filter_rows([marks for _, marks in rows], known), strict=True)
            if not reason
        ]
        check_gate(novel, known)
        return novel

    assert build(leaks) == []
    with pytest.raises(DatasetError, match="Leakage gate"):
        build(lambda marks, _: [""] * len(marks))


def test_reasons_say_what_the_page_says():
    assert set(leakage.REASONS) == {"runs", "functions", "changes"}
    assert all(re.search(r"in train$", reason) for reason in leakage.REASONS.values())
