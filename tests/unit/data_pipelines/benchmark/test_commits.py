import pytest

from data_pipelines.benchmark.commits import SourceChange, Texts, Unfit, candidate_of, cosmetic_part
from data_pipelines.benchmark.requests import Requests
from data_pipelines.document import Change, Commit

BEFORE = '''def area(width, height):
    """The area."""
    total = width*height
    return total
'''
AFTER = '''def area(width, height):
    """The area of a rectangle."""
    # both in metres
    total = width * height
    return abs(total)
'''
FORM = AFTER.replace("abs(total)", "total")


def commit(*changes, message="Make areas positive", name="Ada"):
    found = tuple(Change(path.encode(), status, "1" * 40, "2" * 40) for path, status in changes)
    return Commit("3" * 40, 0, "ada@corp.example", name, message, found)


def reason(*changes, **options):
    with pytest.raises(Unfit) as caught:
        candidate_of(commit(*changes, **options), Requests([]))
    return str(caught.value)


def test_a_commit_of_source_and_tests_is_a_candidate_and_its_changelog_is_no_part_of_it():
    found = candidate_of(
        commit(("src/area.py", "M"), ("tests/test_area.py", "M"), ("tests/data.json", "A"), ("CHANGES.md", "M")),
        Requests([]),
    )
    assert [change.path for change in found.sources] == [b"src/area.py"]
    assert [change.path for change in found.tests] == [b"tests/test_area.py", b"tests/data.json"]
    assert found.request == "Make areas positive"


def test_what_is_no_candidate_is_told_by_reason():
    test = ("tests/test_area.py", "M")
    assert reason(("README.md", "M"), test) == "changes no Python source file"
    assert reason(("setup.py", "M"), test) == "changes no Python source file"
    assert reason(("src/area.py", "M"), ("tests/data.json", "M")) == "changes no Python test file"
    assert reason(("src/area.py", "M"), ("noxfile.py", "M")) == "changes no Python test file"
    assert reason(("src/area.py", "M"), ("tests/test_area.py", "D")) == "changes no Python test file"
    assert reason(("src/area.py", "A"), test) == "adds, removes or renames a source file"
    assert reason(*((f"src/{n}.py", "M") for n in range(6)), test) == "more than 5 source or 10 test files"
    assert reason(("src/area.py", "M"), test, message="wip") == "message states no request"
    assert reason(("src/area.py", "M"), test, name="dependabot[bot]") == "written by a bot"


def test_the_cosmetic_part_is_all_that_leaves_the_syntax_tree_as_it_was():
    assert cosmetic_part(BEFORE, FORM) == FORM
    assert cosmetic_part(BEFORE, BEFORE.replace("return total", "return abs(total)")) == BEFORE
    # a hunk that is in part form and in part code is code
    assert cosmetic_part("a = 1\n\n\nb = 2\n", "# one\na = 1\n\n\nb = 3\n") == "# one\na = 1\n\n\nb = 2\n"


def test_a_change_without_a_cosmetic_part_has_no_cosmetic_answer():
    code = BEFORE.replace("return total", "return abs(total)")
    assert Texts((SourceChange("area.py", BEFORE, code),), ()).cosmetic() == ()
    (file,) = Texts((SourceChange("area.py", "a = 1\n\n\nb = 2\n", "# one\na = 1\n\n\nb = 3\n"),), ()).cosmetic()
    assert file.text == "# one\na = 1\n\n\nb = 2\n"


def test_lines_taken_out_and_put_in_are_counted():
    assert SourceChange("area.py", "a\nb\nc\n", "a\nB\nc\nd\n").num_lines == 3
