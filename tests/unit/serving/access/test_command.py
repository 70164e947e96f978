"""finetune serve key: what each command prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finetune.contracts.errors import UsageError
from serving.access.command import app
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.scopes import Scope
from serving.errors import KeyFileError


@pytest.fixture
def run(tmp_path: Path):
    """Runs a command over a home."""
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--home", str(tmp_path)])


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(KeyFile.within(tmp_path / "served").path)


def test_a_key_is_shown_once_and_works(run, keyring):
    result = run(
        "create",
        "ed",
        "--scope",
        "infer,load",
        "--adapter",
        "shop*",
        "--adapter",
        "x",
        "--expires",
        "90d",
        "--per-minute",
        "9",
    )
    key = result.stdout.split()[-1]
    caller = keyring.caller([f"Bearer {key}"])
    assert (caller.name, caller.scopes) == ("ed", frozenset({Scope.INFER, Scope.LOAD}))
    assert caller.requests_per_minute == 9
    assert caller.adapters == ("shop*", "x") and "sees shop*, x" in result.stdout
    assert "first key" in result.stderr and "first key" not in run("create", "bob", "--scope", "admin").stderr
    listed = run("list").stdout
    assert "ed" in listed and key not in listed and key.rpartition("_")[2] not in listed


def test_json_is_one_document(run):
    key = json.loads(run("create", "ed", "--scope", "infer", "--json").stdout)
    assert key["adapters"] == [] and key["expires"] is None and key["key"].startswith(f"ftk_{key['id']}_")
    del key["key"]
    assert json.loads(run("list", "--json").stdout) == {"keys": [key]}
    assert json.loads(run("revoke", "ed", "--json").stdout) == {**key, "state": "revoked"}


def test_what_a_key_without_patterns_sees_is_said(run):
    assert "no adapter, only the base" in run("create", "ed", "--scope", "infer").stdout
    assert "sees *," in run("create", "root", "--scope", "admin").stdout


def test_the_groups_of_a_key_are_those_named_and_said(run, keyring):
    made = run("create", "ed", "--scope", "infer", "--adapter", "*", "--group", "board", "--group", "team a/b")
    assert keyring.caller([f"Bearer {made.stdout.split()[-1]}"]).groups == {"board", "team a/b"}
    assert "of the groups board, team a/b and public alone" in made.stdout
    assert "of the groups internal and public" in run("create", "bob", "--scope", "infer").stdout
    assert "of any group" in run("create", "root", "--scope", "admin").stdout
    listed = {row["name"]: row["groups"] for row in json.loads(run("list", "--json").stdout)["keys"]}
    assert listed == {"ed": ["board", "team a/b"], "bob": ["internal"], "root": ["*"]}


def test_no_keys_are_said_and_a_lost_name_too(run):
    assert "There are no keys" in run("list").stdout
    assert isinstance(run("revoke", "ed").exception, KeyFileError)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ed", "--scope", "read"),
        ("ed", "--scope", ""),
        ("ed", "--scope", "infer,"),
        ("a b", "--scope", "infer"),
        ("ed", "--scope", "infer", "--adapter", "[a]"),
        ("ed", "--scope", "infer", "--adapter", ""),
        ("ed", "--scope", "infer", *["--adapter", "a"] * 65),
        ("ed", "--scope", "admin", "--adapter", "a"),
        ("ed", "--scope", "admin", "--group", "board"),
        ("ed", "--scope", "infer", "--group", ""),
        ("ed", "--scope", "infer", "--group", " board"),
        ("ed", "--scope", "infer", "--group", "bo\nard"),
        ("ed", "--scope", "infer", *["--group", "a"] * 257),
        ("ed", "--scope", "infer", "--expires", "0d"),
        ("ed", "--scope", "infer", "--expires", "90"),
        ("ed", "--scope", "infer", "--expires", "1w"),
    ],
)
def test_what_makes_no_key_is_refused(run, tmp_path, arguments):
    assert isinstance(run("create", *arguments).exception, UsageError)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize("command", ["create", "list", "revoke"])
def test_help_ends_with_two_examples(command):
    text = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    assert text.partition("Examples: ")[2].count(f"finetune serve key {command}") == 2
