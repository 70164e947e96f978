"""Errors name what strangers called their files, and a terminal only shows it."""

import json

import pytest

from finetune.cli.errors import run_guarded
from finetune.contracts.errors import RecipeError

NAME = "\x1b]0;owned\x07.yaml"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_name_in_an_error_cannot_steer_the_terminal(capsys, as_json):
    def fail() -> None:
        raise RecipeError(f"{NAME} is wrong.", "Correct it.", [f"{NAME}:1: no\tway"])

    assert run_guarded(fail, debug=False, as_json=as_json) == 3
    shown = capsys.readouterr()
    assert (
        shown.err == "Error: \ufffd]0;owned\ufffd.yaml is wrong.\n  \ufffd]0;owned\ufffd.yaml:1: no\tway\nCorrect it.\n"
    )
    assert all(sign.isprintable() or sign == "\n" for sign in shown.out)
    if as_json:
        assert json.loads(shown.out)["problems"] == [f"{NAME}:1: no\tway"]
