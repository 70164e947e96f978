"""The .gitattributes files of a tree, as far as linguist and this project read them; no git, no work tree."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from data_pipelines.filters.globs import attribute_matches
from data_pipelines.filters.language import BY_NAME, SUFFIXES

ATTRIBUTES_NAME = ".gitattributes"
# a repository of a million folders has few rules that matter; this bounds what a hostile one may cost per file
MAX_RULES = 1000
NAMES = {
    "linguist-generated": "generated",
    "linguist-vendored": "vendored",
    "linguist-documentation": "documentation",
    "linguist-detectable": "detectable",
    "linguist-language": "language",
    "text": "text",
    "diff": "diff",
}
# linguist's names where they are not ours in small letters
LANGUAGES = {"c++": "cpp", "c#": "csharp", "shell": "bash", "f#": "fsharp", "vim-script": "vim", "viml": "vim"}
LINE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\S+)\s+(.*)')


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the owner says about one path; None means nothing. language is one of ours."""

    generated: bool | None = None
    vendored: bool | None = None
    documentation: bool | None = None
    detectable: bool | None = None
    language: str | None = None
    text: bool | None = None
    diff: bool | None = None

    @property
    def is_binary(self) -> bool:
        """As the macro `binary` sets it; `-text` alone only keeps line ends as they are."""
        return self.text is False and self.diff is False


NOTHING = Attributes()


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """One line: folder of its file ("" is the top), pattern, and what it sets or, in unset, takes back."""

    folder: str
    pattern: str
    given: Attributes
    unset: tuple[str, ...] = ()

    def applies(self, path: str) -> bool:
        """Whether the line is about path."""
        if not self.folder:
            return attribute_matches(path, self.pattern)
        inside = path.startswith(self.folder + "/")
        return inside and attribute_matches(path[len(self.folder) + 1 :], self.pattern)


def read_rules(files: Mapping[str, str]) -> tuple[tuple[AttributeRule, ...], int]:
    """The rules of all files, given as text by folder, in the order in which they win; how many were too many."""
    # the file nearest to a path wins, and within a file the later line: deeper files come later
    folders = sorted(files, key=lambda folder: (folder.count("/") + bool(folder), folder))
    rules = [rule for folder in folders for rule in _rules(folder, files[folder])]
    return tuple(rules[:MAX_RULES]), max(0, len(rules) - MAX_RULES)


def attributes_of(path: str, rules: Iterable[AttributeRule]) -> Attributes:
    """All that the rules say about a path."""
    answer = NOTHING
    for rule in rules:
        if rule.applies(path):
            given = {item.name: getattr(rule.given, item.name) for item in fields(Attributes)}
            changed = {name: value for name, value in given.items() if value is not None}
            answer = replace(answer, **changed, **dict.fromkeys(rule.unset))
    return answer


def _rules(folder: str, text: str) -> Iterator[AttributeRule]:
    for line in text.splitlines():
        found = LINE.match(line)
        # "[attr]" defines a macro, "!" is forbidden here
        if not found or found[1].startswith(("#", "[attr]", "!")):
            continue
        given, unset = _words(found[2].split())
        if given != NOTHING or unset:
            yield AttributeRule(folder, _unquoted(found[1]), given, unset)


def _words(words: Iterable[str]) -> tuple[Attributes, tuple[str, ...]]:
    values: dict[str, bool | str | None] = {}
    for word in words:
        name, _, value = word.lstrip("-!").partition("=")
        if name == "binary" and not word.startswith(("-", "!")):
            values |= {"text": False, "diff": False}
        elif name in NAMES:
            values[NAMES[name]] = None if word[0] == "!" else _value(name, value, is_off=word[0] == "-")
    unset = tuple(sorted(name for name, value in values.items() if value is None))
    return Attributes(**{name: value for name, value in values.items() if value is not None}), unset  # type: ignore[arg-type]


def _value(name: str, value: str, *, is_off: bool) -> bool | str | None:
    if name == "linguist-language":
        language = LANGUAGES.get(value.lower(), value.lower())
        return None if is_off or language not in {*SUFFIXES, *BY_NAME.values()} else language
    return not is_off and value.lower() != "false"


def _unquoted(pattern: str) -> str:
    if len(pattern) > 1 and pattern[0] == pattern[-1] == '"':
        return re.sub(r"\\(.)", r"\1", pattern[1:-1])
    return pattern
