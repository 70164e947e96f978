"""GET /metrics: what is counted, under which labels, and that no client can make new ones."""

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from serving.adapters.registry import AdapterRegistry
from serving.api.measures import MAX_ALIASES, OTHER, ServiceMeasures
from serving.app import create_app

CHAT = {"model": "base", "messages": [{"role": "user", "content": "q"}]}


@pytest.fixture
def read(client):
    """Read a sample's value, None for a series that there is not; without a name, all names of series."""

    def look(name: str | None = None, **labels: str):
        answer = client.get("/metrics")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
        samples = [one for family in text_string_to_metric_families(answer.text) for one in family.samples]
        if name is None:
            return {one.name for one in samples}
        found = [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(found) if found else None

    return look


def load(client, name="shop", path="shop-1"):
    return client.post("/v1/adapters/alias", json={"alias": name, "adapter": path})


def test_requests_are_counted_by_route_and_status(client, read, engine):
    load(client)
    client.get("/v1/models/shop")
    client.get("/v1/models/nobody")
    client.get("/v1/models/secret-of-a-client")
    engine.busy = True
    client.post("/v1/chat/completions", json=CHAT)
    engine.busy, engine.broken = False, True
    client.post("/v1/chat/completions", json=CHAT)

    def count(route, status):
        return read("finetune_http_requests_total", route=route, status=status)

    assert count("/v1/models/{name}", "200") == 1 and count("/v1/models/{name}", "404") == 2
    assert count("/v1/chat/completions", "429") == 1 and count("/v1/chat/completions", "500") == 1


def test_what_is_refused_before_a_route_is_counted_under_none(client, read):
    client.get("/secret/path", headers={"host": "127.0.0.1"})
    client.get("/v1/models", headers={"host": "elsewhere.example"})
    client.post("/v1/chat/completions", content=b"x" * 5000)
    assert read("finetune_http_requests_total", route="(none)", status="404") == 1
    assert read("finetune_http_requests_total", route="(none)", status="403") == 1
    assert read("finetune_http_requests_total", route="/v1/chat/completions", status="413") == 1
    text = client.get("/metrics").text
    assert "secret" not in text and "elsewhere" not in text


def test_tokens_and_times_are_counted_by_the_served_name(client, read):
    load(client)
    for model, stream in (("base", False), ("shop", True)):
        client.post("/v1/chat/completions", json={**CHAT, "model": model, "max_tokens": 5, "stream": stream})
    for alias in ("base", "shop"):
        assert read("finetune_answers_total", alias=alias, outcome="length") == 1
        assert read("finetune_prompt_tokens_total", alias=alias) == len("user=q")
        assert read("finetune_completion_tokens_total", alias=alias) == 6
        assert read("finetune_time_to_first_token_seconds_count", alias=alias) == 1
        assert read("finetune_inter_token_seconds_count", alias=alias) == 5
    client.post("/infill", json={"input_prefix": "a"})
    assert read("finetune_answers_total", alias="base", outcome="stop") == 1


def test_an_answer_that_breaks_is_counted_as_failed(client, read, engine):
    engine.fail = True
    client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    client.post("/v1/chat/completions", json=CHAT)
    assert read("finetune_answers_total", outcome="failed") == 2
    assert read("finetune_answers_total", outcome="stop") is None


def test_a_name_that_is_gone_has_no_series(client, read):
    load(client)
    client.post("/v1/chat/completions", json={**CHAT, "model": "shop"})
    assert read("finetune_completion_tokens_total", alias="shop")
    assert read("finetune_alias_info", alias="shop") == 1
    client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"})
    assert 'alias="shop"' not in client.get("/metrics").text


def test_names_that_nobody_serves_make_no_series(client, read):
    for number in range(3):
        client.post("/v1/chat/completions", json={**CHAT, "model": f"made-up-{number}"})
    assert "made-up" not in client.get("/metrics").text
    assert read("finetune_answers_total", alias="base") is None


def test_there_is_a_bound_on_names(registry, monkeypatch):
    monkeypatch.setattr(AdapterRegistry, "serves", lambda self, name: name != "gone")
    measures = ServiceMeasures(registry)
    labels = [measures.alias(f"name{number}") for number in range(MAX_ALIASES + 1)]
    assert labels[-2:] == [f"name{MAX_ALIASES - 1}", OTHER]
    assert measures.alias("gone") == OTHER
    monkeypatch.setattr(AdapterRegistry, "serves", lambda self, name: name != "name0")
    assert measures.alias("another") == "another"


def test_the_life_of_adapters_is_counted(client, read, root, make_adapter, engine):
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    for path in ("shop-1", "shop-2", "shop-3"):
        assert load(client, path=path).status_code == 200
    client.post("/v1/adapters/rollback", json={"alias": "shop"})
    assert read("finetune_alias_moves_total", kind="move") == 2
    assert read("finetune_alias_moves_total", kind="rollback") == 1
    assert read("finetune_adapter_evictions_total") == 1
    for phase in ("check", "attach", "probe"):
        assert read("finetune_adapter_load_seconds_count", phase=phase) == 3
    assert read("finetune_adapter_drain_seconds_count") == 1
    assert read("finetune_adapters", state="resident") == 2 and read("finetune_adapter_bytes") == 2000
    assert read("finetune_alias_info", alias="shop", adapter_id=client.get("/v1/models/shop").json()["root"]) == 1


@pytest.mark.parametrize(
    ("path", "log_probs", "reason"),
    [
        ("absent", None, "missing"),
        ("../..", None, "request"),
        ("shop-1", (-2.0, -3.0), "conflict"),
        ("shop-1", (float("nan"), -1.5), "invalid"),
    ],
)
def test_a_refused_load_is_counted_once_by_its_kind(client, read, engine, path, log_probs, reason):
    engine.adapter_log_probs = log_probs or engine.adapter_log_probs
    assert load(client, path=path).status_code >= 400
    assert read("finetune_adapter_refusals_total", reason=reason) == 1 == read("finetune_adapter_refusals_total")
    assert read("finetune_alias_moves_total") == 0


def test_the_engine_s_hands_are_shown(client, read, engine):
    assert read("finetune_engine_ready") == 1 and read("finetune_requests_running") == 0
    assert read("process_resident_memory_bytes") > 1 << 20
    engine.ready = False
    assert read("finetune_engine_ready") == 0


def test_two_applications_count_apart(client, read, engine, store, settings):
    before = {metric.name for metric in REGISTRY.collect()}
    app = create_app(engine, store, settings=settings)
    with TestClient(app, base_url="http://127.0.0.1") as other:
        other.get("/livez")
    assert read("finetune_http_requests_total", route="/livez") is None
    assert {metric.name for metric in REGISTRY.collect()} == before
