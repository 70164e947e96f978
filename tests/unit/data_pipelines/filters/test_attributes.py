import pytest

from data_pipelines.filters import attributes
from data_pipelines.filters.attributes import NOTHING, Attributes, attributes_of, read_rules


def of(path, **files):
    """What files (the top is "top", "a__b" is the folder a/b) say about path."""
    rules, _ = read_rules({"" if name == "top" else name.replace("__", "/"): text for name, text in files.items()})
    return attributes_of(path, rules)


def test_the_nearest_file_and_in_it_the_later_line_wins():
    files = {
        "top": "*.py linguist-generated\na/b/x.py linguist-vendored",
        "a": "*.py -linguist-generated\nx.py linguist-generated=false",
        "a__b": "x.py linguist-generated=true",
    }
    assert of("x.py", **files).generated is True
    assert of("a/x.py", **files).generated is False
    assert of("a/b/x.py", **files) == Attributes(generated=True, vendored=True)
    assert of("ab/x.py", **files).generated is True, "a folder is more than the beginning of a name"


def test_an_attribute_may_be_taken_back():
    assert of("x.py", top="*.py linguist-vendored\nx.py !linguist-vendored") == NOTHING


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("*.py linguist-documentation=False", Attributes(documentation=False)),
        ("*.py linguist-detectable=true text=auto", Attributes(detectable=True, text=True)),
        ("*.py -diff -text", Attributes(text=False, diff=False)),
        ("*.py binary", Attributes(text=False, diff=False)),
        ("*.py linguist-language=Shell", Attributes(language="bash")),
        ("*.py linguist-language=C++", Attributes(language="cpp")),
        ("*.py linguist-language=Brainfuck", NOTHING),
        ("*.py export-ignore eol=lf merge=union", NOTHING),
        ('"x y.py" linguist-vendored', NOTHING),
        ("[attr]mine linguist-vendored", NOTHING),
        ("!x.py linguist-vendored", NOTHING),
        ("# x.py linguist-vendored", NOTHING),
        ("*.py", NOTHING),
        ("  x.py   linguist-generated  ", Attributes(generated=True)),
    ],
)
def test_words(line, expected):
    assert of("x.py", top=line) == expected


def test_a_quoted_pattern_has_blanks():
    assert of("x y.py", top='"x y.py" linguist-vendored').vendored is True


def test_binary_needs_more_than_unchanged_line_ends():
    assert of("x.py", top="* -text").is_binary is False
    assert of("x.py", top="* binary").is_binary is True


def test_rules_beyond_the_limit_are_counted(monkeypatch):
    monkeypatch.setattr(attributes, "MAX_RULES", 2)
    rules, num_ignored = read_rules({"": "a linguist-vendored\n" * 5})
    assert (len(rules), num_ignored) == (2, 3)
