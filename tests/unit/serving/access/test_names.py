"""For which groups a name is, by served/names.yaml."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.access.names import DEFAULT_RULES, NAMES_NAME, NameRule, NameRules, load_name_rules
from serving.access.scopes import OPERATOR, Caller, Scope
from serving.errors import AdapterConflictError, NamesFileError, ScopeError

RULES = NameRules(
    names=(
        NameRule(name="plans-old", groups=()),
        NameRule(name="plans*", groups=("board", "internal")),
        NameRule(name="open-?", groups=("public",)),
    )
)
ADMIN = Caller("admin", frozenset({Scope.ADMIN}), ("*",))


def holder(*groups: str) -> Caller:
    return Caller("k", frozenset({Scope.LOAD}), ("*",), groups=frozenset(groups))


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("plans-old", ()),
        ("plans-olds", ("board", "internal")),
        ("open-1", ("public",)),
        ("open-12", ("internal",)),
        ("Plans", ("internal",)),
    ],
)
def test_the_first_rule_that_fits_counts(name, groups):
    assert RULES.groups_of(name) == groups


def test_a_name_is_taken_by_who_holds_all_of_its_groups():
    for caller in (holder("board", "internal", "x"), ADMIN, OPERATOR):
        RULES.check_caller("plans", caller)
    for caller in (holder("board"), holder("internal"), holder()):
        with pytest.raises(ScopeError, match="The name 'plans' is for keys of other groups"):
            RULES.check_caller("plans", caller)
        RULES.check_caller("open-1", caller)
    RULES.check_caller("plans-old", ADMIN)
    with pytest.raises(ScopeError):
        RULES.check_caller("plans-old", holder("board", "internal"))


@pytest.mark.parametrize(
    ("name", "visibility", "fits"),
    [
        ("plans", ("board", "internal"), True),
        ("plans", ("board", "public"), True),
        ("plans", ("board", "other"), False),
        ("plans", (), False),
        ("open-1", ("public",), True),
        ("open-1", ("internal",), False),
        ("plans-old", (), True),
        ("plans-old", ("other",), True),
        ("shop", ("internal",), True),
        ("shop", ("board",), False),
    ],
)
def test_a_name_holds_what_all_may_see_who_may_take_it(name, visibility, fits):
    assert RULES.fits(name, visibility) is fits
    RULES.check_adapter(name, visibility, OPERATOR)
    if fits:
        RULES.check_adapter(name, visibility, ADMIN)
    else:
        with pytest.raises(AdapterConflictError, match=r"served/names\.yaml"):
            RULES.check_adapter(name, visibility, ADMIN)


def test_without_a_file_names_are_for_internal(tmp_path: Path):
    assert load_name_rules(tmp_path) is DEFAULT_RULES
    assert DEFAULT_RULES.groups_of("shop") == ("internal",)


def test_the_file_is_read_as_documented(tmp_path: Path):
    _, names, rest = (Path(__file__).parents[4] / "docs" / "access.md").read_text().partition("names:\n")
    (tmp_path / NAMES_NAME).write_text(names + rest.partition("```")[0])
    rules = load_name_rules(tmp_path)
    assert rules.groups_of("plans-2") == ("board", "internal") and rules.groups_of("shop") == ("internal",)
    assert rules.groups_of("old-shop") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: []", "at least 1"),
        ("names: [{name: a/b, groups: []}]", "pattern"),
        ("names: [{name: a}]", "groups"),
        ("names: [{name: '*', groups: [a]}, {name: b, groups: [a]}]", "the rule for b never counts"),
        ("names: [{name: b, groups: [a]}, {name: b, groups: [c]}]", "the rule for b never counts"),
        ("other: 1", "other"),
    ],
)
def test_mistakes_in_it_are_told_with_their_place(tmp_path: Path, text, said):
    (tmp_path / NAMES_NAME).write_text(text)
    with pytest.raises(NamesFileError) as caught:
        load_name_rules(tmp_path)
    assert said in str(caught.value) and "names.yaml" in str(caught.value)


def test_too_many_rules_are_refused():
    with pytest.raises(ValidationError):
        NameRules(names=tuple(NameRule(name=f"n{number}", groups=()) for number in range(257)))
