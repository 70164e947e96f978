"""Keys on the real server, with the official client and the real commands."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import yaml

from finetune.contracts.errors import InputError
from finetune.contracts.run import Home
from serving.access.identity import IDENTITY_NAME
from serving.access.keys import KeyFile
from serving.access.scopes import Limits, Scope
from serving.access.usage import read_usage
from serving.client import call
from serving.run import running_server
from tests.identity_provider import AUDIENCE, IdentityProvider, make_key, running_provider

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "def add(a, b):"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "served"


@pytest.fixture(scope="module")
def file(served: Path) -> KeyFile:
    return KeyFile.within(served)


@pytest.fixture(scope="module")
def admin(file: KeyFile) -> str:
    return file.create("admin", scopes=[Scope.ADMIN], adapters=[])[1]


@pytest.fixture(scope="module")
def provider(served: Path) -> Iterator[IdentityProvider]:
    """One whose tokens the home lets in: who is in the group red may ask red."""
    with running_provider() as one:
        rule = {"claim": "groups", "equals": "red", "scopes": ["infer"], "adapters": ["red"], "groups": ["internal"]}
        served.mkdir(exist_ok=True)
        document = {"issuer": one.issuer, "audience": AUDIENCE, "rules": [rule], "tokens_per_day": 1000}
        (served / IDENTITY_NAME).write_text(yaml.safe_dump(document))
        yield one


@pytest.fixture(scope="module")
def url(tiny_base: Path, adapters: Path, served: Path, admin: str, provider: IdentityProvider) -> Iterator[str]:
    with running_server(tiny_base, adapters, home=Home(served.parent)) as address:
        with client(address, admin) as one:
            for name, folder in (("red", "good"), ("blue", "other")):
                one.post("/load_lora_adapter", body={"lora_name": name, "lora_path": folder}, cast_to=object)
        yield address


def client(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)


def ask(one: openai.OpenAI, model: str, **options: object) -> object:
    return one.chat.completions.create(model=model, messages=QUESTION, max_tokens=4, temperature=0, **options)


def test_a_key_is_asked_for_and_ends_while_the_server_runs(url, file):
    _, key = file.create("short", scopes=[Scope.INFER], adapters=["red"])
    with client(url, key) as one, client(url, key[:-1] + ("a" if key[-1] != "a" else "b")) as wrong:
        assert ask(one, "red").choices
        for refused in (wrong, client(url, "none")):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask(refused, "red")
            assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.PermissionDeniedError, match="scope load"):
            one.post("/load_lora_adapter", body={"lora_name": "x", "lora_path": "good"}, cast_to=object)
        begun = ask(one, "red", stream=True)
        next(begun)
        file.revoke("short")
        with pytest.raises(openai.AuthenticationError):
            ask(one, "red")
        # what was let in goes on to its end
        assert list(begun)[-1].choices[0].finish_reason


def test_two_keys_cannot_see_or_call_each_other_s_adapters(url, file):
    scopes = [Scope.INFER, Scope.PROMOTE]
    teams = {name: file.create(name, scopes=scopes, adapters=[f"{name}*"])[1] for name in ("red", "blue")}
    for own, other in (("red", "blue"), ("blue", "red")):
        with client(url, teams[own]) as one:
            assert {card.id for card in one.models.list().data} == {"tiny", own}
            assert ask(one, own).choices[0].message.content != ask(one, "tiny").choices[0].message.content
            answers = []
            for name in (other, "gray"):
                with pytest.raises(openai.NotFoundError) as caught:
                    ask(one, name)
                answers.append(caught.value.response.text.replace(name, "NAME"))
                with pytest.raises(openai.NotFoundError):
                    one.models.retrieve(name)
                with pytest.raises(openai.NotFoundError):
                    one.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=object)
            assert answers[0] == answers[1]
            assert other not in one.get("/adapters", cast_to=str)
        with client(url, teams[other]) as one:
            assert ask(one, other).choices


def test_nothing_but_livez_answers_without_a_key(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("/readyz", "/openapi.json", "/v1/models", "/v1/adapters", "/nowhere"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(url + path)
        assert caught.value.code == 401
        caught.value.close()
    with opener.open(f"{url}/livez") as answer:
        assert answer.status == 200


def test_the_commands_take_the_key_from_the_environment_or_a_file(url, admin, tmp_path, monkeypatch):
    monkeypatch.delenv("FINETUNE_API_KEY", raising=False)
    with pytest.raises(InputError, match="No valid API key") as caught:
        call(url, "/v1/adapters", expects="data")
    assert "FINETUNE_API_KEY" in caught.value.hint
    (tmp_path / "key").write_text(admin + "\n")
    command = [sys.executable, "-m", "finetune", "serve", "list", "--url", url]
    for more, added in (([], {"FINETUNE_API_KEY": admin}), (["--key-file", str(tmp_path / "key")], {})):
        environment = {**os.environ, **added}
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=True)
        assert "blue" in done.stdout


def test_a_command_makes_the_first_key_of_a_server_that_runs(tiny_base, adapters, tmp_path):
    with running_server(tiny_base, adapters, home=Home(tmp_path)) as url:
        with client(url, "none") as one:
            assert ask(one, "tiny").choices
            command = [sys.executable, "-m", "finetune", "serve", "key", "create", "ed", "--scope", "infer"]
            done = subprocess.run([*command, "--home", str(tmp_path)], capture_output=True, text=True, check=True)
            with pytest.raises(openai.AuthenticationError):
                ask(one, "tiny")
        with client(url, done.stdout.split()[-1]) as one:
            assert ask(one, "tiny").choices


def test_who_signed_in_may_do_what_the_groups_of_the_token_give(url, provider):
    provider.private["next"] = ("ES256", make_key("ES256"))
    with client(url, provider.token(groups=["red"])) as one:
        answer = one.chat.completions.with_raw_response.create(model="red", messages=QUESTION, max_tokens=4)
        assert answer.headers["x-ratelimit-limit-tokens"] == "1000" and answer.headers["x-request-id"]
        assert [card.id for card in one.models.list().data] == ["tiny", "red"]
        with pytest.raises(openai.NotFoundError):
            ask(one, "blue")
    refused = {"expired": provider.token(exp=5, groups=["red"]), "unknown key": provider.token("next", groups=["red"])}
    for token in refused.values():
        with client(url, token) as one, pytest.raises(openai.AuthenticationError):
            ask(one, "red")
    with client(url, provider.token()) as one, pytest.raises(openai.PermissionDeniedError):
        ask(one, "tiny")


def test_a_day_s_tokens_are_not_counted_anew_by_a_restart_nor_by_another_server(tiny_base, adapters, tmp_path):
    file = KeyFile.within(tmp_path / "served")
    _, key = file.create("few", scopes=[Scope.INFER], adapters=[], limits=Limits(tokens_per_day=100))
    with running_server(tiny_base, adapters, home=Home(tmp_path)) as address, client(address, key) as one:
        used = ask(one, "tiny").usage.total_tokens
    assert read_usage(tmp_path / "served") == {"few": used}
    with (
        running_server(tiny_base, adapters, home=Home(tmp_path)) as first,
        running_server(tiny_base, adapters, home=Home(tmp_path)) as second,
        client(first, key) as one,
        client(second, key) as other,
    ):
        while used < 100:
            used += ask(one, "tiny").usage.total_tokens
        deadline = time.monotonic() + 20
        for place in (one, other):
            # another server learns of it within a second or two
            with pytest.raises(openai.RateLimitError) as caught:
                while time.monotonic() < deadline:
                    ask(place, "tiny")
            assert caught.value.code == "insufficient_quota"


def test_the_log_of_a_server_tells_who_asked_what_and_holds(url, served, file):
    _, key = file.create("curious", scopes=[Scope.INFER], adapters=["red"])
    with client(url, key) as one:
        ask(one, "red")
        with pytest.raises(openai.NotFoundError):
            ask(one, "blue")
    command = [sys.executable, "-m", "finetune", "serve", "audit", "--home", str(served.parent), "--json"]

    def read(*arguments: str) -> dict:
        return json.loads(subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout)

    deadline = time.monotonic() + 20
    rows: list[dict] = []
    while len(rows) < 3 and time.monotonic() < deadline:
        rows = read("--key", "curious", "--since", "1h")["entries"]
    made, red, blue = rows
    assert made["action"] == "key created" and made["key_id"] == red["key_id"]
    assert (red["model"], red["status"], red["outcome"], red["completion_tokens"]) == ("red", 200, "whole", 4)
    assert red["answered"] and (blue["model"], blue["status"], blue["answered"]) == ("blue", 404, "")
    chains = read("--verify")["chains"]
    assert {"keys", url.rpartition(":")[2]} == {chain["chain"] for chain in chains}
