"""finetune serve key: what each command prints, and what it refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from finetune.contracts.errors import RunError, UsageError
from serving.access.audit import AuditLog
from serving.access.audit_command import audit as audit_command
from serving.access.audit_files import series_in
from serving.access.command import app
from serving.access.keyring import Keyring
from serving.access.keys import KeyFile
from serving.access.record import RequestRecord
from serving.access.scopes import Limits, Scope
from serving.access.usage import DayTokens
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
    assert caller.limits == Limits(requests_per_minute=9)
    assert caller.adapters == ("shop*", "x") and "sees shop*, x" in result.stdout
    assert "first key" in result.stderr and "first key" not in run("create", "bob", "--scope", "admin").stderr
    listed = run("list").stdout
    assert "ed" in listed and key not in listed and key.rpartition("_")[2] not in listed


def test_json_is_one_document(run):
    key = json.loads(run("create", "ed", "--scope", "infer", "--json").stdout)
    assert key["adapters"] == [] and key["expires"] is None and key["key"].startswith(f"ftk_{key['id']}_")
    del key["key"]
    assert json.loads(run("list", "--json").stdout) == {"keys": [{**key, "tokens_today": 0}], "people": {}}
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


@pytest.mark.parametrize("command", ["create", "list", "revoke", "rotate"])
def test_help_ends_with_two_examples(command):
    text = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    assert text.partition("Examples: ")[2].count(f"finetune serve key {command}") == 2


def test_a_key_is_rotated_and_its_use_is_listed(run, keyring, tmp_path):
    old = run("create", "ed", "--scope", "infer", "--tokens-per-day", "5000", "--concurrent", "2").stdout.split()[-1]
    result = run("rotate", "ed", "--overlap", "12h")
    new = result.stdout.split()[-1]
    assert "is valid until" in result.stdout and keyring.caller([f"Bearer {old}"]) == keyring.caller([f"Bearer {new}"])
    assert keyring.caller([f"Bearer {new}"]).limits == Limits(None, 5000, 2)
    tokens = DayTokens(tmp_path / "served" / "usage.json")
    tokens.add("ed", 1200)
    tokens.add("oidc:ada", 34_567)
    tokens.save()
    assert "34,567" in run("list").stdout and json.loads(run("list", "--json").stdout)["people"] == {"oidc:ada": 34567}
    assert "1,200 of 5,000" in run("list").stdout
    row = json.loads(run("list", "--json").stdout)["keys"][1]
    assert (row["tokens_today"], row["tokens_per_day"], row["max_concurrent"]) == (1200, 5000, 2)
    assert "is over" in run("rotate", "ed", "--overlap", "0h").stdout
    assert isinstance(run("rotate", "ed", "--overlap", "soon").exception, UsageError)


def test_the_log_is_printed_filtered_and_checked(run, tmp_path):
    audit = typer.Typer()
    audit.command()(audit_command)

    def read(*arguments: str):
        return CliRunner().invoke(audit, [*arguments, "--home", str(tmp_path)])

    assert "no such entry" in read().stdout and "There is no log" in read("--verify").stdout
    run("create", "ed", "--scope", "infer")
    run("create", "bob", "--scope", "infer")
    log = AuditLog(tmp_path / "served" / "audit", "8000")
    for who, model in (("ed", "shop"), ("bob", "bank\x1b[2J")):
        record = RequestRecord(caller=who, route="POST /infill", model=model, at_ms=1000)
        log.note(record, status=200, seconds=0.1)
    log.close()
    assert read("--key", "ed").stdout.count("ed  ") == 2 and "bob" not in read("--key", "ed").stdout
    assert "\x1b" not in read("--adapter", "bank\x1b[2J").stdout
    assert [row["model"] for row in json.loads(read("--adapter", "shop", "--json").stdout)["entries"]] == ["shop"]
    # what happened in 1970 is older
    assert "/infill" in read().stdout and "/infill" not in read("--since", "24h").stdout
    text = read("--verify").stdout
    assert "server started" in read().stdout and "server stopped" in read().stdout
    assert "8000: 4 entries hold" in text and "keys: 2 entries hold" in text
    chains = {row["chain"]: row for row in json.loads(read("--verify", "--json").stdout)["chains"]}
    assert chains["8000"]["last"] == 4 and chains["8000"]["digest"] in text
    (path,) = series_in(tmp_path / "served" / "audit")["8000"]
    path.write_bytes(path.read_bytes().replace(b"shop", b"bank"))
    assert isinstance(read("--verify").exception, RunError)
