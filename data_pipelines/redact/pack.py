"""The rule pack: TOML into compiled RE2 rules, and which of them a text needs."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import re2

from data_pipelines.redact.form import Form
from finetune.contracts.io import digest_text

# RE2 gives up when its automaton does not fit; the keywords and each rule need a small part of this
MAX_MEMORY_BYTES = 64 << 20
PACK_FILES = ("secrets.toml", "passwords.toml")
PART = re.compile(r"<<(\w+)>>")


@dataclass(frozen=True)
class Rule:
    """One rule; groups are the numbers of the groups that hold the secret, (0,) for the whole match.

    lines: the secret spans lines, each of which gets the placeholder. strings: each quoted text in the group is one.
    forms: the texts it is for. human, mixed, chosen and random: see allow.py. Without keywords it is always tried.
    shape: a regex that stands in whatever the pattern matches, "" for none.
    """

    id: str
    kind: str
    pattern: Any
    groups: tuple[int, ...]
    keywords: tuple[str, ...]
    shape: str
    forms: frozenset[Form]
    min_entropy: float
    lines: bool
    strings: bool
    human: bool
    mixed: bool
    chosen: bool
    random: bool


class RulePack:
    """Rules in the order of their files. version and digest go into the dataset's settings."""

    def __init__(self, *texts: str) -> None:
        documents = [tomllib.loads(text) for text in texts]
        self.version = max(int(document["version"]) for document in documents)
        self.digest = digest_text("\0".join(texts))
        self.rules = tuple(
            _compile(row, document.get("parts", {})) for document in documents for row in document["rules"]
        )
        self._keywords = re2.Set.SearchSet(_keyword_options())
        self._owners: list[tuple[int, ...]] = []
        self._unkeyed = {index for index, rule in enumerate(self.rules) if not rule.keywords}
        words: dict[str, list[int]] = {}
        for index, rule in enumerate(self.rules):
            for keyword in rule.keywords:
                words.setdefault(keyword, []).append(index)
        for keyword, owners in words.items():
            self._keywords.Add(re2.escape(keyword))
            self._owners.append(tuple(owners))
        self._shapes = {index: self._keywords.Add(rule.shape) for index, rule in enumerate(self.rules) if rule.shape}
        # RE2 answers "nothing" when it gives up: every text has an end, so without that there was no answer
        self._always = self._keywords.Add(r"\z")
        self._keywords.Compile()

    def rules_for(self, text: bytes, form: Form) -> list[Rule]:
        """The rules for this form that may match: a keyword of theirs is in text, if they have any, and their shape."""
        present = frozenset(self._keywords.Match(text) or ())
        if self._always not in present:
            raise MemoryError("the automaton of the keywords does not fit")
        keyed = {rule for word in present if word < len(self._owners) for rule in self._owners[word]}
        return [
            rule
            for index in sorted(self._unkeyed | keyed)
            if form in (rule := self.rules[index]).forms and self._shapes.get(index, self._always) in present
        ]


def _keyword_options() -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = MAX_MEMORY_BYTES
    return options


def _compile(row: dict[str, Any], parts: Mapping[str, str]) -> Rule:
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    pattern = re2.compile(PART.sub(lambda part: parts[part[1]], row["regex"]).encode(), options)
    named = [number for name, number in pattern.groupindex.items() if name.startswith(b"secret")]
    return Rule(
        id=row["id"],
        kind=row["kind"],
        pattern=pattern,
        groups=tuple(sorted(named)) or (0,),
        keywords=tuple(word.lower() for word in row["keywords"]),
        shape=row.get("shape", ""),
        forms=frozenset(Form(name) for name in row.get("forms", Form)),
        min_entropy=float(row.get("min_entropy", 0)),
        lines=bool(row.get("lines", False)),
        strings=bool(row.get("strings", False)),
        human=bool(row.get("human", False)),
        mixed=bool(row.get("mixed", False)),
        chosen=bool(row.get("chosen", False)),
        random=bool(row.get("random", False)),
    )


@cache
def default_pack() -> RulePack:
    """The pack that ships with the project."""
    folder = files("data_pipelines.redact.rules")
    return RulePack(*(folder.joinpath(name).read_text(encoding="utf-8") for name in PACK_FILES))
