"""Names in code: what is used and what is called, and which of it a repository knows."""

from pathlib import Path

import pytest

from finetune.evaluate.identifiers import CodeNames
from finetune.evaluate.symbols import RepositoryNames
from finetune.render.dataset import open_dataset


@pytest.mark.parametrize(
    ("language", "text", "identifiers", "calls"),
    [
        ("python", "    return foo(bar.baz(x), 'q(z)')  # c(y)\n", {"foo", "bar", "baz", "x"}, {"foo", "baz"}),
        ("python", "def made(a):\n    pass\n", {"made", "a"}, set()),
        ("go", "x := fetch(bar)\nfunc made() {}", {"x", "fetch", "bar", "made"}, {"fetch"}),
        ("java", "return new Foo(a).bar(b);", {"Foo", "a", "bar", "b"}, {"Foo", "bar"}),
        ("javascript", "const x = foo(a)", {"x", "foo", "a"}, {"foo"}),
        ("php", "$x = foo($a);", {"$x", "foo", "$a"}, {"foo"}),
        ("rust", "let x = foo(1);", {"x", "foo"}, {"foo"}),
        ("no such language", "foo(x)", {"foo", "x"}, {"foo"}),
    ],
)
def test_names_and_calls(language: str, text: str, identifiers: set[str], calls: set[str]) -> None:
    found = CodeNames.of(text, language)
    assert found.identifiers == identifiers
    assert found.calls == calls


def test_overlap_is_f1_of_sets() -> None:
    wanted = CodeNames.of("total = price * count", "python")
    assert CodeNames.of("total = price * n", "python").overlap(wanted) == pytest.approx(2 / 3)
    assert wanted.overlap(wanted) == 1.0
    assert CodeNames.of("pass", "python").overlap(wanted) == 0.0
    assert CodeNames.of("pass", "python").overlap(CodeNames.of("return", "python")) is None


def test_a_call_resolves_to_what_the_repository_the_file_or_the_language_knows(tiny_dataset: Path) -> None:
    names = RepositoryNames.of_dataset(open_dataset(tiny_dataset), {"shop", "elsewhere"})
    assert names["elsewhere"].names == frozenset()
    known = RepositoryNames(frozenset({"charge"}))
    assert known.share_resolved(frozenset({"charge", "len", "local", "invented"}), "def local(): ...") == 0.75
    assert known.share_resolved(frozenset(), "") is None
    assert names["shop"].names
    assert names["shop"].digest != known.digest
