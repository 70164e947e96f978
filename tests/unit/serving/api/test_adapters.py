"""Load, unload and list over HTTP: what is refused leaves what is served as it was."""

import pytest

from finetune.contracts.errors import AdapterError


def load(client, name="shop", path="shop-1", **more):
    return client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path, **more})


def names(client) -> list[str]:
    return [card["id"] for card in client.get("/v1/models").json()["data"]]


def test_a_loaded_adapter_is_a_model_and_answers(client, root):
    answer = load(client)
    assert answer.status_code == 200 and answer.json()["adapter"]["rank"] == 8
    assert names(client) == ["base", "shop"]
    card = client.get("/v1/models/shop").json()
    assert card["parent"] == "base" and card["root"] == answer.json()["adapter"]["adapter_id"]
    body = {"model": "shop", "messages": [{"role": "user", "content": "q"}]}
    reply = client.post("/v1/chat/completions", json=body).json()
    assert reply["choices"][0]["message"]["content"].startswith("slot000000:")
    assert reply["system_fingerprint"] == card["root"]
    for route in ("/v1/models", "/v1/models/shop", "/v1/adapters"):
        assert str(root) not in client.get(route).text
    assert client.get("/v1/adapters").json()["available"] == ["shop-1"]


def test_unloading_ends_it(client, engine):
    load(client)
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"}).status_code == 200
    assert names(client) == ["base"] and engine.slots == []
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"}).status_code == 404
    assert client.get("/v1/models/shop").status_code == 404


def test_a_name_is_served_once_and_never_replaced(client, engine):
    load(client)
    for again in (load(client), load(client, name="base")):
        assert again.status_code == 409
    assert load(client, load_inplace=True).status_code == 400
    assert engine.slots == ["slot000000"]


def test_a_slot_is_never_used_twice(client, engine):
    load(client)
    client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"})
    load(client)
    assert engine.slots == ["slot000001"]


def test_there_is_a_limit(client, root, make_adapter):
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    loads = [load(client, name=f"n{number}", path=f"shop-{number}").status_code for number in (1, 2, 3)]
    assert loads == [200, 200, 409]


def move(client, name="shop", path="shop-1"):
    return client.post("/v1/adapters/alias", json={"alias": name, "adapter": path})


def test_a_name_moves_and_goes_back(client, root, make_adapter, engine):
    make_adapter(root / "shop-2", content=2)
    first = move(client).json()["adapter"]["adapter_id"]
    second = move(client, path="shop-2").json()["adapter"]
    assert second["previous"] == first != second["adapter_id"]
    assert client.get("/v1/models/shop").json()["root"] == second["adapter_id"]
    back = client.post("/v1/adapters/rollback", json={"alias": "shop"}).json()["adapter"]
    assert (back["adapter_id"], back["previous"]) == (first, second["adapter_id"])
    history = client.get("/v1/adapters/shop/history").json()["data"]
    assert [one["adapter_id"] for one in history] == [first, second["adapter_id"], first]
    versions = client.get("/v1/adapters").json()["versions"]
    assert {one["adapter_id"]: one["state"] for one in versions} == dict.fromkeys((first, back["previous"]), "resident")
    assert client.get("/v1/adapters/nobody/history").status_code == 404
    assert client.post("/v1/adapters/rollback", json={"alias": "nobody"}).status_code == 404
    assert engine.detached == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "é", "x" * 129, "a\n", "-a"])
def test_a_name_that_could_be_something_else_is_refused(client, name):
    assert load(client, name=name).status_code == 400
    assert names(client) == ["base"]


@pytest.mark.parametrize("path", ["..", ".", "/", "/etc", "../adapters", "shop-1/../..", "a\0b", "~", "x" * 300])
def test_a_path_outside_the_folder_is_refused(client, path):
    response = load(client, path=path)
    assert response.status_code in (400, 404)
    assert names(client) == ["base"]


def test_a_link_out_of_the_folder_is_refused(client, root, make_adapter):
    outside = make_adapter(root.parent / "outside")
    (root / "link").symlink_to(outside)
    assert load(client, path="link").json()["error"]["code"] == "adapter_path_outside"
    assert load(client, path=str(outside)).status_code == 400


@pytest.mark.parametrize(
    ("log_probs", "status", "words"),
    [
        ((-2.0, -3.0), 409, "does not change"),
        ((-5.0, -5.0), 409, "apart from the record"),
        ((float("nan"), -1.5), 400, "not a number"),
    ],
)
def test_an_adapter_that_fails_its_probe_is_taken_off_again(client, engine, log_probs, status, words):
    engine.adapter_log_probs = log_probs
    response = load(client)
    assert response.status_code == status and words in response.json()["error"]["message"]
    assert names(client) == ["base"] and engine.slots == [] and engine.detached == ["slot000000"]


def test_an_engine_s_refusal_names_no_folder(client, engine, root):
    engine.attach_error = AdapterError(f"{root / 'shop-1' / 'adapter_model.safetensors'} lacks a tensor.", "Try again.")
    response = load(client)
    assert response.status_code == 400
    assert "shop-1/adapter_model.safetensors" in response.text and str(root) not in response.text
    assert names(client) == ["base"]
