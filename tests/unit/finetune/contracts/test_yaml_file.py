"""YAML mistakes are told all at once, each with its line and the nearest key."""

import os

import pytest
from pydantic import BaseModel, ConfigDict, Field

from finetune.contracts.errors import RecipeError
from finetune.contracts.yaml_file import MAX_PROBLEMS, load_yaml_model, nearest_key, parse_scalar


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rank: int = Field(default=8, ge=1)
    rate: float = 0.1
    names: list[int] = []


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    lora: Inner = Inner()


def load(tmp_path, text, **overrides):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return load_yaml_model(path, Outer, hint="Fix it.", overrides=overrides or None)


def problems(tmp_path, text, **overrides):
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, **overrides)
    prefix = f"{tmp_path}/"
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def test_a_good_file_is_read(tmp_path):
    recipe = load(tmp_path, "name: x\nlora:\n  rank: 4\n  rate: 1e-4\n")
    assert (recipe.lora.rank, recipe.lora.rate) == (4, 1e-4)


def test_all_mistakes_come_at_once_with_their_lines(tmp_path):
    found = problems(tmp_path, "lora:\n  rnak: 3\n  rank: 0\n  names: [1, a]\nnmae: x\n")
    assert found == [
        "r.yaml:1: name: missing; it must be given",
        "r.yaml:3: lora.rank: Input should be greater than or equal to 1 (given: 0)",
        "r.yaml:4: lora.names[1]: Input should be a valid integer, unable to parse string as an integer (given: 'a')",
        "r.yaml:2: lora.rnak: unknown key; did you mean lora.rank?",
        "r.yaml:5: nmae: unknown key; did you mean name?",
    ]


def test_a_key_given_twice_is_a_mistake(tmp_path):
    assert problems(tmp_path, "name: x\nname: y\n") == ["r.yaml:2: name: given twice"]


def test_an_override_wins_and_its_mistake_names_the_flag(tmp_path):
    assert load(tmp_path, "name: x\nlora: {rank: 4}\n", **{"lora.rank": 9}).lora.rank == 9
    assert problems(tmp_path, "name: x\n", **{"lora.rank": 0})[0].startswith("--set: lora.rank:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1", "r.yaml:1: not valid YAML"),
        ("- a\n- b\n", "the file must be a mapping"),
        ("name: !!python/object:os.system x\n", "1 mistake"),
        ("name: !custom x\n", "1 mistake"),
        ("a: 1\nb: " + "[" * 40 + "]" * 40, "r.yaml:2: not valid YAML: nested deeper than 32 levels"),
        ("a: " + "{a: " * 20_000, "nested deeper than 32 levels"),
        ('name: "a\\0b"\n', "1 mistake"),
        ('name: "\\ud800"\n', "1 mistake"),
    ],
)
def test_what_is_no_recipe_is_told(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        load(tmp_path, text)


def test_missing_binary_and_huge_files_are_told(tmp_path):
    with pytest.raises(RecipeError, match=r"gone.yaml does not exist"):
        load_yaml_model(tmp_path / "gone.yaml", Outer, hint="Fix it.")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_yaml_model(tmp_path, Outer, hint="Fix it.")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        load_yaml_model(tmp_path / "b.yaml", Outer, hint="Fix it.")
    (tmp_path / "h.yaml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(RecipeError, match="larger than"):
        load_yaml_model(tmp_path / "h.yaml", Outer, hint="Fix it.")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)]
)
def test_what_is_no_file_is_not_opened(tmp_path, make):
    make(tmp_path / "r.yaml")
    with pytest.raises(RecipeError, match=r"r.yaml cannot be read"):
        load_yaml_model(tmp_path / "r.yaml", Outer, hint="Fix it.")


def test_what_is_wrong_all_through_is_told_in_short(tmp_path):
    found = problems(tmp_path, "".join(f"key{n}: 1\n" for n in range(3000)) + f"{'x' * 1000}: 1\n")
    assert len(found) == MAX_PROBLEMS + 1 and found[-1].startswith("and 2,")
    assert max(map(len, problems(tmp_path, f"name: [{'x, ' * 5000}x]\n{'y' * 1000}: 1\n"))) < 500


def test_an_alias_bomb_does_not_expand(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [" + ", ".join([f"*{chr(97 + i)}"] * 9) + "]\n" for i in range(8)
    )
    assert "an alias (*name) is not allowed" in problems(tmp_path, bomb)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("yes", True),
        ("3", 3),
        ("a1", "a1"),
        ("null", None),
        ("2024-13-45", "2024-13-45"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars(text, value):
    assert parse_scalar(text) == value


def test_the_nearest_key_may_be_in_another_section():
    assert nearest_key("rank", Outer) == "lora.rank"
    assert nearest_key("zzzzzz", Outer) is None
