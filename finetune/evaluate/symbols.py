"""Names that a repository's code knows, so that a call of anything else can be told as invented."""

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from finetune.contracts.dataset import Role, Split
from finetune.contracts.io import digest_text
from finetune.render.dataset import OpenDataset

NAME = re.compile(r"[^\W\d]\w*")
BUILTINS = frozenset(dir(builtins))
# an answer may hold code that nobody wrote
WRITTEN = frozenset({Role.CONTEXT, Role.PREFIX, Role.SUFFIX, Role.TARGET, Role.ANSWER})


@dataclass(frozen=True, slots=True)
class RepositoryNames:
    """All names that occur in a repository's code as the dataset holds it, in both splits, and Python's builtins."""

    names: frozenset[str]

    @classmethod
    def of_dataset(cls, dataset: OpenDataset, repositories: set[str]) -> Mapping[str, Self]:
        """One for each of the repositories."""
        found: dict[str, set[str]] = {repo: set() for repo in repositories}
        for split in Split:
            for example in dataset.examples(split):
                repo = example.provenance[0].repo if example.provenance else ""
                if repo in found:
                    for part in example.segments:
                        if part.role in WRITTEN:
                            found[repo].update(NAME.findall(part.text))
        return {repo: cls(frozenset(names)) for repo, names in found.items()}

    @property
    def digest(self) -> str:
        """Of all names."""
        return digest_text("\n".join(sorted(self.names)))

    def share_resolved(self, calls: frozenset[str], before: str) -> float | None:
        """Share of calls whose name is known here or stands in the code before the gap; None without any call."""
        if not calls:
            return None
        known = self.names | BUILTINS | frozenset(NAME.findall(before))
        return len(calls & known) / len(calls)
