"""The endpoint against its own OpenAPI document: what it allows and what it does not, with and without a key.

FINETUNE_CONFORMANCE_EXAMPLES says how many bodies each route gets of either kind.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from finetune.contracts.run import Home
from serving.access.keys import KeyFile
from serving.access.scopes import Scope
from serving.adapters.store import AdapterStore
from serving.app import create_app
from serving.run import running_server
from serving.settings import ServerSettings
from tests.unit.serving.conftest import FakeEngine

# not with the suite: each run of pytest would load its plug-in, also those in the jail
schemathesis = pytest.importorskip(
    "schemathesis", reason='schemathesis is not installed: pip install -e ".[conformance]"'
)
from hypothesis import HealthCheck, Phase, given, note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402

pytestmark = pytest.mark.slow
NUM_EXAMPLES = int(os.environ.get("FINETUNE_CONFORMANCE_EXAMPLES", "12"))
# answers are of no interest here, so they are short
SETTINGS = ServerSettings(max_tokens=4, max_context_tokens=512)
GENERATED = settings(
    max_examples=NUM_EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NAMES = ("tiny", "shop")
# What is asked for in place of a generated value in three of four, which would hardly ever be served
QUESTION = [{"role": "user", "content": "def add(a, b):"}]
PLAIN = {
    "model": NAMES,
    "messages": (QUESTION,),
    "tools": (None,),
    "tool_choice": (None,),
    "lora_name": NAMES,
    "lora_path": ("good",),
    "alias": NAMES,
    "adapter": ("good", "other"),
    "to": ("other",),
}
WHOLE = {"/v1/chat/completions": ChatCompletion, "/v1/completions": Completion}


@dataclass(frozen=True)
class Site:
    """A server of the tiny base, and what asks it with the key of an admin and with none."""

    url: str
    root: Path
    keyed: requests.Session
    keyless: requests.Session


@pytest.fixture(scope="module")
def site(tiny_base: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = Home(tmp_path_factory.mktemp("home"))
    key = KeyFile.within(home.served).create("admin", scopes=[Scope.ADMIN], adapters=[])[1]
    with requests.Session() as keyed, requests.Session() as keyless:
        keyed.headers["Authorization"] = f"Bearer {key}"
        with running_server(tiny_base, adapters, home=home, settings=SETTINGS) as url:
            body = {"lora_name": "shop", "lora_path": "good"}
            assert keyed.post(f"{url}/v1/load_lora_adapter", json=body).status_code == 200
            yield Site(url, tiny_base.parents[1], keyed, keyless)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the application says of itself; it sends that to nobody."""
    store = AdapterStore(tmp_path_factory.mktemp("none"), max_rank=SETTINGS.max_rank)
    return create_app(FakeEngine(), store, settings=SETTINGS).openapi()


def steered(case: schemathesis.Case, draw: st.DrawFn) -> schemathesis.Case:
    """The case, with plain values where it has some at all."""
    if isinstance(case.body, dict):
        for field, values in PLAIN.items():
            if field in case.body and draw(st.integers(0, 3)):
                case.body[field] = draw(st.sampled_from(values))
    return case


def assert_sound(answer: requests.Response, site: Site) -> None:
    """No failure of the server, an error in OpenAI's shape, and nothing of the machine."""
    assert answer.status_code < 500, answer.text
    assert str(site.root) not in answer.text and "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error"}
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"] and error["type"]
        assert all(value is None or isinstance(value, str) for value in error.values())


def assert_readable(answer: requests.Response, path: str) -> None:
    """An answer is what the official client's own types hold; a stream ends as it should."""
    if path not in WHOLE or answer.status_code != 200:
        return
    if answer.headers["content-type"] == "application/json":
        WHOLE[path].model_validate_json(answer.content, strict=True)
        return
    *events, end, nothing = answer.text.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert chunks and all(chunk["model"] for chunk in chunks)
    if path == "/v1/chat/completions":
        # of completions the client has one type, which does not know that a choice goes on
        for chunk in chunks:
            ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_in_openais_shape_and_tells_nothing_of_the_server(site, document, mode):
    seen: Counter[tuple[str, int]] = Counter()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            # a path takes any text
            continue

        @GENERATED
        @given(case=operation.as_strategy(mode), data=st.data())
        def check(case: schemathesis.Case, data: st.DataObject) -> None:
            sent = steered(case, data.draw).as_transport_kwargs(base_url=site.url)
            note(f"{case.method} {case.formatted_path} {case.body!r}")
            refused, answer = (session.request(**sent) for session in (site.keyless, site.keyed))
            for one in (refused, answer):
                assert_sound(one, site)
                seen[case.operation.label, one.status_code] += 1
            assert refused.status_code == (200 if case.operation.path == "/livez" else 401)
            assert_readable(answer, case.operation.path)

        check()
    status = 200 if mode is GenerationMode.POSITIVE else 400
    for path in WHOLE:
        assert seen[f"POST {path}", status], seen
