"""Each instruction can be followed, and its check tells so; silence, chatter and a fence in the wrong place fail."""

import json

import pytest

from finetune.evaluate.general.checks import is_json
from finetune.evaluate.general.instructions import Instruction, instructions

# an answer to the first filling of each form
GOOD = {
    "lines": "Rivers flow.\nThey end in seas.",
    "bullets": "- They flow.\n- They are wet.",
    "numbers": "1. Look.\n2. Swim.",
    "keys": '{"name": 1}',
    "integers": "[1, 2]",
    "strings": '["a", "b"]',
    "capitals": "RIVERS FLOW.",
    "small letters": "rivers flow.",
    "short": "Water that flows.",
    "last word": "Rivers flow until they are DONE",
    "first word": "Perhaps they flow.",
    "no comma": "Rivers flow. They are wet.",
    "commas": "boats, fish",
    "quotes": '"Rivers flow."',
    "bare code": "def items_sold():\n    return 1\n",
    "fence": "```python\ndef items_sold():\n    return 1\n```",
    "one comment": "# Counts the items sold",
    "snake case": "items_sold",
    "camel case": "itemsSold",
    "address": "items_sold@example.org",
    "sum": "43",
    "larger": "26",
    "even": "No.",
    "hexadecimal": "0x11",
    "sort": "apple\nfig\npear",
    "reverse": "fig, apple, pear",
    "count": "3",
    "repeat": "pear, apple, fig",
    "replace": "stone, apple, fig",
    "array": '["pear", "apple", "fig"]',
    "one word": "def",
    "date": "2021-03-05",
}
FIRST = [each for each in instructions() if each.id.endswith(" 1")]


def test_there_are_four_fillings_of_each_form_and_any_start_has_many_forms() -> None:
    found = instructions()
    assert len({each.id for each in found}) == len({each.prompt for each in found}) == len(found) == 4 * len(GOOD)
    assert {each.form for each in found[: len(GOOD)]} == set(GOOD)


@pytest.mark.parametrize("each", FIRST, ids=lambda each: each.form)
def test_a_good_answer_passes_and_others_do_not(each: Instruction) -> None:
    good = GOOD[each.form]
    assert each.passes(good)
    assert each.passes(f"{good}\n"), "a last line break is no content"
    assert not each.passes("")
    assert not each.passes(f"Sure! Here is what you asked for, with pleasure:\n\n{good}\n\nDo ask again, Ann.\n" * 3)


def test_prompts_hold_no_placeholder() -> None:
    assert not [each.prompt for each in instructions() if "{0" in each.prompt]


def test_broken_or_deep_json_is_a_wrong_answer_and_no_error() -> None:
    anything = is_json(lambda value: True)
    assert anything(json.dumps({"a": [1]}))
    assert not anything("{")
    assert not anything("[" * 100_000)
