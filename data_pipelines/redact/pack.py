"""The rule pack: TOML into compiled RE2 rules, and which of them a text needs."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import re2

from finetune.contracts.io import digest_text

# RE2 gives up when its automaton does not fit; the keywords and each rule need a small part of this
MAX_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True)
class Rule:
    """One rule; groups are the numbers of the groups that hold the secret, (0,) for the whole match.

    lines: the secret spans lines, each of which gets the placeholder. human and mixed: see allow.py.
    """

    id: str
    kind: str
    pattern: Any
    groups: tuple[int, ...]
    keywords: tuple[str, ...]
    min_entropy: float
    lines: bool
    human: bool
    mixed: bool


class RulePack:
    """Rules in the order of their file. version and digest go into the dataset's settings."""

    def __init__(self, text: str) -> None:
        document = tomllib.loads(text)
        self.version = int(document["version"])
        self.digest = digest_text(text)
        self.rules = tuple(_compile(row) for row in document["rules"])
        options = re2.Options()
        options.case_sensitive = False
        options.literal = True
        options.max_mem = MAX_MEMORY_BYTES
        self._keywords = re2.Set.SearchSet(options)
        self._owners: list[tuple[int, ...]] = []
        words: dict[str, list[int]] = {}
        for index, rule in enumerate(self.rules):
            for keyword in rule.keywords:
                words.setdefault(keyword, []).append(index)
        for keyword, owners in words.items():
            self._keywords.Add(keyword)
            self._owners.append(tuple(owners))
        self._keywords.Compile()

    def rules_for(self, text: bytes) -> list[Rule]:
        """The rules one of whose keywords occurs in text, found in a single pass."""
        wanted = {rule for word in self._keywords.Match(text) or () for rule in self._owners[word]}
        return [self.rules[index] for index in sorted(wanted)]


def _compile(row: dict[str, Any]) -> Rule:
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    pattern = re2.compile(row["regex"].encode(), options)
    named = [number for name, number in pattern.groupindex.items() if name in (b"secret", b"secret2")]
    return Rule(
        id=row["id"],
        kind=row["kind"],
        pattern=pattern,
        groups=tuple(sorted(named)) or (0,),
        keywords=tuple(word.lower() for word in row["keywords"]),
        min_entropy=float(row.get("min_entropy", 0)),
        lines=bool(row.get("lines", False)),
        human=bool(row.get("human", False)),
        mixed=bool(row.get("mixed", False)),
    )


@cache
def default_pack() -> RulePack:
    """The pack that ships with the project."""
    return RulePack(files("data_pipelines.redact.rules").joinpath("secrets.toml").read_text(encoding="utf-8"))
