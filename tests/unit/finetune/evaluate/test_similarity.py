"""Equal and nearly equal answers, by the definitions of docs/evaluation.md."""

import pytest

from finetune.evaluate.similarity import edit_distance, edit_similarity, exact_match, normalised


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("intention", "execution", 5),
        ("größe", "grosse", 3),
        ("aaaa", "aa", 2),
    ],
)
def test_edit_distance_has_its_known_values(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right) == distance
    assert edit_distance(right, left) == distance


def test_white_space_at_line_ends_and_empty_lines_around_do_not_count() -> None:
    assert normalised("\n  a  \n\n b\t\n\n") == "  a\n\n b"
    assert exact_match("return x  \n", "return x")
    assert not exact_match("  return x", "return x"), "indentation is part of Python"
    assert not exact_match("return x\nreturn y", "return x")


def test_similarity_runs_from_nothing_kept_to_equal() -> None:
    assert edit_similarity("return x\n", "return x") == 1.0
    assert edit_similarity("zzz", "abc") == 0.0
    assert edit_similarity("", "") == 1.0
    assert edit_similarity("abcd", "abcx") == 0.75
