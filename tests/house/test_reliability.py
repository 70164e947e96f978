"""The fault matrix names tests that exist, and each protection of bench/mutations.py stands where it is looked for."""

import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def mutations():
    spec = importlib.util.spec_from_file_location("bench_mutations", ROOT / "bench" / "mutations.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.MUTATIONS


def is_test(path: Path, name: str) -> bool:
    return path.is_file() and f"def test_{name.replace(' ', '_')}(" in path.read_text()


def test_every_test_of_the_matrix_exists():
    links = re.findall(r"\[([a-z0-9 ]+)\]\((\.\./tests/[^)]+)\)", PAGE.read_text())
    assert len(links) > 60
    assert [f"{path}: {name}" for name, path in links if not is_test(PAGE.parent / path, name)] == []


def test_every_protection_stands_once_and_its_test_exists():
    found = mutations()
    assert len(found) > 20
    for one in found:
        assert (ROOT / one.file).read_text().count(one.old) == 1, one.protection
        path, _, name = one.test.partition("::test_")
        assert is_test(ROOT / path, name), one.test


def test_the_page_shows_every_protection():
    page = PAGE.read_text()
    assert [one.protection for one in mutations() if f"| {one.protection} |" not in page] == []
