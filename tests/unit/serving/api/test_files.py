"""The files of a served adapter as they go out: those that were loaded, and nothing else of the machine."""

import json
from pathlib import Path

import pytest

from finetune.contracts.adapter_files import read_adapter


@pytest.fixture
def shop(client) -> str:
    """Where the files of the served adapter are."""
    assert client.post("/v1/load_lora_adapter", json={"lora_name": "shop", "lora_path": "shop-1"}).status_code == 200
    return "/v1/adapters/shop/files"


def test_what_is_fetched_is_a_whole_adapter(client, shop, root, tmp_path):
    # what lies in the adapters folder by now does not matter
    manifest = json.loads((root / "shop-1" / "manifest.json").read_text())
    (root / "shop-1" / "manifest.json").write_text("{}")
    listed = client.get(shop).json()
    assert listed["adapter_id"] == manifest["adapter_id"]
    folder = tmp_path / "fetched"
    folder.mkdir()
    for entry in listed["data"]:
        answer = client.get(f"{shop}/{entry['name']}")
        assert answer.headers["x-adapter-id"] == manifest["adapter_id"] and len(answer.content) == entry["bytes"]
        (folder / entry["name"]).write_bytes(answer.content)
    assert read_adapter(folder).model_dump(mode="json") == manifest


def test_a_part_can_be_fetched_so_that_a_download_goes_on(client, shop):
    whole = client.get(f"{shop}/manifest.json").content
    part = client.get(f"{shop}/manifest.json", headers={"Range": "bytes=10-"})
    assert part.status_code == 206 and part.content == whole[10:]
    for wrong in ("bytes=x-", "bytes=999999-", "lines=1-", "bytes=5-1"):
        assert client.get(f"{shop}/manifest.json", headers={"Range": wrong}).status_code in (400, 416)


@pytest.mark.parametrize(
    "file",
    ["none", "..", ".lock", "%2e%2e%2f.lock", "..%2f..%2fkeys.json", "manifest.json%00", "%2fetc%2fpasswd", "%ff"],
)
def test_nothing_else_is_sent(client, shop, file):
    answer = client.get(f"{shop}/{file}")
    assert answer.status_code == 404 and "error" in answer.json()


def test_a_copy_stays_until_it_is_sent(client, registry, shop):
    version = registry.versions[0]
    lease = version.lease()
    client.get(f"{shop}/manifest.json")
    assert version.leases == {lease}
    lease.release()
    folder: Path = version.folder
    client.post("/v1/unload_lora_adapter", json={"lora_name": "shop"})
    assert not folder.exists() and client.get(f"{shop}/manifest.json").status_code == 404
