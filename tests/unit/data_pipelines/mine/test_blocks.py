import pytest

from data_pipelines.mine.blocks import find_hunks, make_blocks
from finetune.contracts.edit_blocks import Block, apply_blocks, read_blocks, write_blocks


def blocks_for(before, after):
    return make_blocks(before, after, find_hunks(before.splitlines(keepends=True), after.splitlines(keepends=True)))


LINES = "".join(f"line {number}\n" for number in range(30))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LINES, LINES.replace("line 7\n", "seven\n")),
        (LINES, LINES.replace("line 7\n", "")),
        (LINES, "new first\n" + LINES),
        (LINES, LINES + "new last\n"),
        (LINES, LINES.replace("line 3\n", "three\n").replace("line 20\n", "twenty\nand one\n")),
        ("same\n" * 5 + "x\n" + "same\n" * 5, "same\n" * 5 + "y\n" + "same\n" * 5),
        ("a\n\nb\n\na\n", "a\n\nb\n\nc\n"),
        ("a\n", "b\n"),
    ],
)
def test_blocks_give_the_text_after_exactly(before, after):
    blocks = blocks_for(before, after)
    assert apply_blocks(before, blocks) == after
    text = write_blocks("a/b.py", blocks)
    assert [block for _, block in read_blocks(text)] == blocks
    assert {path for path, _ in read_blocks(text)} == {"a/b.py"}


def test_repeated_lines_make_the_search_grow_until_it_is_unique():
    before = "def f():\n    return 1\n\ndef g():\n    return 1\n"
    (block,) = blocks_for(before, "def f():\n    return 1\n\ndef g():\n    return 2\n")
    assert "def g" in block.search


def test_what_cannot_be_unique_is_refused():
    assert apply_blocks("a\na\n", [Block("a\n", "b\n")]) is None
    assert apply_blocks("xa\n", [Block("a\n", "b\n")]) is None, "a search begins where a line begins"
    assert apply_blocks("a\n", [Block("c\n", "b\n")]) is None


@pytest.mark.parametrize("part", ["=======\n", "<<<<<<< SEARCH\n", "no line break"])
def test_text_that_would_read_as_a_marker_is_not_written(part):
    assert write_blocks("a.py", [Block("x\n", part)]) is None


@pytest.mark.parametrize("text", ["a.py\n", "a.py\n<<<<<<< SEARCH\nx\n", "a.py\nx\n=======\ny\n>>>>>>> REPLACE\n"])
def test_a_broken_answer_is_an_error_with_its_line(text):
    with pytest.raises(ValueError, match="line"):
        read_blocks(text)
