"""Names in a piece of code, by the lexers of Pygments: what it uses, and what it calls."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

# words after which a name and a "(" define and do not call
DEFINING = frozenset({"def", "class", "func", "fun", "fn", "function", "struct", "interface", "record"})


@dataclass(frozen=True, slots=True)
class CodeNames:
    """identifiers: names that are no keyword, in no string and in no comment. calls: those that a "(" follows."""

    identifiers: frozenset[str]
    calls: frozenset[str]

    @classmethod
    def of(cls, text: str, language: str) -> Self:
        """The names in text; a language that Pygments does not know is read as Python."""
        from pygments.token import Comment, Name, String, Whitespace

        tokens = [
            (kind, value)
            for kind, value in _lexer(language).get_tokens(text)
            if kind not in Comment and kind not in String and kind not in Whitespace and value.strip()
        ]
        names = frozenset(value for kind, value in tokens if kind in Name)
        triples = zip([(None, ""), *tokens], tokens, tokens[1:], strict=False)
        calls = frozenset(
            value
            for (_, before), (kind, value), (_, after) in triples
            if kind in Name and after.startswith("(") and before not in DEFINING
        )
        return cls(names, calls)

    def overlap(self, other: "CodeNames") -> float | None:
        """F1 of the two sets of identifiers: 1 the same, 0 nothing shared; None where neither has any."""
        if not self.identifiers and not other.identifiers:
            return None
        return 2 * len(self.identifiers & other.identifiers) / (len(self.identifiers) + len(other.identifiers))


# startinline is for PHP: a piece of code does not begin with its opening tag
@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False, startinline=True)
    except ClassNotFound:
        return get_lexer_by_name("python", stripnl=False, ensurenl=False, startinline=True)
