"""finetune serve: what each command prints, and what it refuses before anything is loaded."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import serving.client
from finetune.contracts.errors import AdapterError, PlatformError, UsageError
from serving.cli import app

CARD = {"adapter_id": "shop-1", "base": "base", "name": "shop", "previous": None}


@pytest.fixture
def calls(monkeypatch):
    """What the commands send, answered as the server would."""
    made: list[tuple[str, str, object]] = []
    answers = {
        "/v1/adapters/alias": {"status": "served", "adapter": {**CARD, "previous": "shop-0"}},
        "/v1/adapters/rollback": {"status": "served", "adapter": CARD},
        "/v1/unload_lora_adapter": {"status": "unloaded", "name": "shop"},
        "/v1/models": {
            "data": [
                {"id": "base", "root": "base", "parent": None},
                {"id": "shop", "root": "shop-1", "parent": "base"},
            ]
        },
        "/v1/adapters": {
            "data": [CARD],
            "versions": [{"adapter_id": "shop-1", "state": "resident"}, {"adapter_id": "shop-0", "state": "draining"}],
            "available": ["shop-0", "shop-1", "other-2"],
        },
    }

    def call(url: str, path: str, *, expects: str, body: object = None, key_file: Path | None = None) -> object:
        made.append((url, path, body))
        assert expects in answers[path]
        return answers[path]

    monkeypatch.setattr(serving.client, "call", call)
    return made


def run(*arguments: str):
    return CliRunner().invoke(app, arguments)


def test_load_sends_a_folder_in_full_and_an_id_as_it_is(calls, tmp_path: Path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "shop-1 is served as shop over base" in (text := run("load", "shop", "mine").stdout)
    assert "Before it was shop-0." in text
    run("load", "shop", "shop-1", "--url", "http://127.0.0.1:9")
    assert [body["adapter"] for _, _, body in calls] == [str(tmp_path / "mine"), "shop-1"]
    assert calls[1][0] == "http://127.0.0.1:9"


def test_rollback_says_what_is_served_now(calls):
    text = run("rollback", "shop").stdout
    assert "shop-1 is served as shop" in text and "Before" not in text and calls[0][2] == {"alias": "shop"}


def test_unload_says_what_it_did(calls):
    assert "shop is no longer served" in run("unload", "shop").stdout


def test_list_shows_what_is_served_and_what_could_be(calls):
    text = run("list").stdout
    assert (
        "shop   shop-1  base" in text and "other-2" in text.splitlines()[-1] and "shop-1" not in text.splitlines()[-1]
    )


@pytest.mark.parametrize("arguments", [("load", "shop", "x"), ("unload", "shop"), ("list",)])
def test_json_is_one_document(calls, arguments):
    assert isinstance(json.loads(run(*arguments, "--json").stdout), dict)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--quantization", "int8"), UsageError),
        (("--engine", "other"), UsageError),
        (("--engine", "vllm"), UsageError),
        (("--replica", "http://127.0.0.1:8001"), UsageError),
        (("--engine", "vllm", "--replica", "http://10.0.0.1:8001"), UsageError),
        (("--adapter", "shop"), UsageError),
        (("--adapter", "=x"), UsageError),
        (("--adapter", "shop=absent"), AdapterError),
    ],
)
def test_start_refuses_before_it_loads(arguments, error, tmp_path: Path):
    result = run("start", str(tmp_path / "no-base"), "--home", str(tmp_path), "--port", "0", *arguments)
    assert isinstance(result.exception, error)


def test_start_names_a_base_that_is_missing(tmp_path: Path):
    result = run("start", str(tmp_path / "no-base"), "--home", str(tmp_path), "--port", "0")
    assert isinstance(result.exception, PlatformError) and "no-base" in str(result.exception)


@pytest.mark.parametrize("command", ["start", "load", "unload", "list"])
def test_help_ends_with_two_examples(command):
    text = " ".join(run(command, "--help").stdout.split())
    assert text.partition("Examples: ")[2].count(f"finetune serve {command}") == 2
