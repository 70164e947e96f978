"""served/names.yaml: for which groups a name of the endpoint is, whatever it stands for, and also if it is free.

Who may take a name under which something may be hidden from it learns from the refusal that there is something. So a
name is for those alone from whom nothing under it can be hidden, and holds nothing that could be.
"""

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from finetune.contracts.dataset import Contract
from finetune.contracts.yaml_file import load_yaml_model
from serving.access.keys import GROUP, MAX_GROUPS, PATTERN
from serving.access.scopes import DEFAULT_GROUP, OPERATOR, PUBLIC, Caller
from serving.errors import AdapterConflictError, NamesFileError, ScopeError

NAMES_NAME = "names.yaml"
MAX_RULES = 256
HINT = "docs/access.md shows a whole one. Without the file, all names are for the group internal."


class NameRule(Contract):
    """The names that a pattern with * and ? fits are for who holds all of these groups; none: for admins alone."""

    name: Annotated[str, Field(pattern=f"^{PATTERN}$")]
    groups: Annotated[tuple[Annotated[str, Field(pattern=f"^{GROUP}$")], ...], Field(max_length=MAX_GROUPS)]


class NameRules(Contract):
    """The first rule that fits a name counts; one that none fits is for the default group."""

    names: Annotated[tuple[NameRule, ...], Field(min_length=1, max_length=MAX_RULES)]

    @model_validator(mode="after")
    def _each_counts(self) -> "NameRules":
        for number, rule in enumerate(self.names):
            before = next((one.name for one in self.names[:number] if one.name in ("*", rule.name)), None)
            if before:
                raise ValueError(f"the rule for {rule.name} never counts: it comes after that for {before}")
        return self

    def groups_of(self, name: str) -> tuple[str, ...]:
        """The groups that a name is for; none: admins alone."""
        return next((rule.groups for rule in self.names if fnmatchcase(name, rule.name)), (DEFAULT_GROUP,))

    def check_caller(self, name: str, caller: Caller) -> None:
        """Raise ScopeError unless the caller may load under the name; what it stands for is not asked."""
        if not caller.holds(self.groups_of(name)):
            raise ScopeError(f"The name {name!r} is for keys of other groups.", "Choose another name.")

    def check_adapter(self, name: str, visibility: Iterable[str], caller: Caller) -> None:
        """Raise AdapterConflictError unless all whom the name is for may see an adapter of these groups.

        Where nobody needs a key there is nothing to hide, and the operator may.
        """
        if caller == OPERATOR or self.fits(name, visibility):
            return
        stated = f"the groups {', '.join(visibility)}" if visibility else "no group"
        wanted = ", ".join(self.groups_of(name))
        raise AdapterConflictError(
            f"The adapter is of {stated}, and the name {name!r} is for {wanted}.",
            "Choose another name, or let the operator say in served/names.yaml whom it is for.",
        )

    def fits(self, name: str, visibility: Iterable[str]) -> bool:
        """Whether all whom the name is for may see an adapter of these groups."""
        groups, needed = self.groups_of(name), frozenset(visibility)
        return not groups or (bool(needed) and needed <= {*groups, PUBLIC})


DEFAULT_RULES = NameRules(names=(NameRule(name="*", groups=(DEFAULT_GROUP,)),))


def load_name_rules(folder: Path) -> NameRules:
    """Those of a home, from the folder of what it serves.

    Raises NamesFileError with every mistake and its line, and for a file that cannot be read.
    """
    path = folder / NAMES_NAME
    if not os.path.lexists(path):
        return DEFAULT_RULES
    return load_yaml_model(path, NameRules, error=NamesFileError, hint=HINT)
