import time

import pytest

from data_pipelines.filters.globs import attribute_matches, glob_matches


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("docs", "docs/a.py", True),
        ("docs", "x/docs/y/a.py", True),
        ("docs", "docs.py", False),
        ("/docs", "x/docs/a.py", False),
        ("docs/", "docs/a.py", True),
        ("*.sql", "db/a.sql", True),
        ("*.sql", "a.sql.py", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/x/a.py", False),
        ("src/*.py", "x/src/a.py", False),
        ("src/**/a.py", "src/a.py", True),
        ("src/**/a.py", "src/x/y/a.py", True),
        ("**/gen", "x/gen/a.py", True),
        ("src/**", "src/x/a.py", True),
        ("src/*", "src/x/a.py", True),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        ("[ab].py", "b.py", True),
        ("[!ab].py", "b.py", False),
        ("[^ab].py", "c.py", True),
        ("[a-c]x", "bx", True),
        ("a[.py", "a[.py", True),
        ("a\\*.py", "a*.py", True),
        ("a\\*.py", "ab.py", False),
        ("a.c", "abc", False),
        ("(x|y)+", "(x|y)+", True),
        ("ü*.py", "über.py", True),
    ],
)
def test_patterns_of_gitignore(pattern, path, matches):
    assert glob_matches(path, pattern) is matches


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.py", "x/a.py", True),
        ("docs", "docs/a.py", False),
        ("docs/", "docs/x/a.py", True),
        ("docs/**", "docs/x/a.py", True),
        ("docs/*", "docs/x/a.py", False),
        ("/a.py", "x/a.py", False),
    ],
)
def test_patterns_of_gitattributes_match_the_file_itself(pattern, path, matches):
    assert attribute_matches(path, pattern) is matches


@pytest.mark.parametrize("pattern", ["*a" * 100 + "b", "[z-a]", "[]", "\\", "a" * 500, "**/" * 50 + "b"])
def test_no_pattern_fails_or_takes_long(pattern):
    began = time.process_time()
    assert not glob_matches("a" * 200 + "/" + "a" * 200, pattern)
    assert time.process_time() - began < 1
