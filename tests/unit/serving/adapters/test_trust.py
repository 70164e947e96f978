"""A server with a policy takes what a trusted key signed, looks at each load, and lets go what is revoked."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import yaml

from finetune.adapters.sign import sign_adapter
from finetune.contracts.adapter_files import list_files, read_manifest, write_manifest
from finetune.contracts.io import digest_file
from finetune.contracts.trust import TrustFile
from serving.access.scopes import OPERATOR
from serving.adapters.desired import StateFile
from serving.adapters.registry import AdapterRegistry
from serving.adapters.store import AdapterStore
from serving.adapters.trust_watch import TrustWatch
from serving.errors import AdapterUntrustedError, RequestError


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """A folder with two key pairs."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "other"):
        private, public = folder / f"{name}.key.pem", folder / f"{name}.pem"
        make = ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
        for command in (make, ("pkey", "-in", private, "-pubout", "-out", public)):
            subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return folder


@pytest.fixture
def policy(tmp_path, keys):
    """Writes the policy, which trusts the key one unless it is told otherwise; returns its path."""

    def write(**changes: object) -> Path:
        values = {"require_signature": True, "keys": [str(keys / "one.pem")], **changes}
        (tmp_path / "trust.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "trust.yaml"

    write()
    return write


@pytest.fixture
def store(root, settings, policy, tmp_path) -> AdapterStore:
    return AdapterStore(root, max_rank=settings.max_rank, trust=TrustFile(tmp_path / "trust.yaml", required=True))


@pytest.fixture
def folder(root, keys) -> Path:
    """shop-1, signed with the key one."""
    sign(root / "shop-1", keys / "one.key.pem")
    return root / "shop-1"


def sign(folder: Path, key: Path) -> None:
    sign_adapter(folder, key, password=str)


def flip(folder: Path) -> None:
    """One bit of the weights, and a manifest made to fit by who may write it."""
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    reseal(folder)


def add(folder: Path) -> None:
    (folder / "more.md").write_text("more")
    reseal(folder)


def reseal(folder: Path) -> None:
    manifest = read_manifest(folder)
    digests = manifest.digests.model_copy(update={"weights": digest_file(folder / "adapter_model.safetensors")})
    write_manifest(folder, manifest.model_copy(update={"digests": digests, "files": list_files(folder)}))


def test_an_adapter_that_a_trusted_key_signed_is_taken(store, engine, folder):
    assert store.check(folder, engine.description).rank == 8


@pytest.mark.parametrize("spoil", [flip, add, lambda folder: (folder / "signature.json").unlink()])
def test_what_was_altered_or_lacks_a_signature_is_refused_before_it_is_loaded(client, engine, folder, root, spoil):
    spoil(folder)
    answer = client.post("/v1/load_lora_adapter", json={"lora_name": "shop", "lora_path": "shop-1"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "adapter_not_trusted", "permission_error")
    assert "shop-1" in error["message"] and str(root) not in error["message"]
    assert engine.slots == []
    refusals = 'finetune_adapter_refusals_total{reason="untrusted"} 1.0'
    assert refusals in client.get("/metrics").text


def test_another_key_is_refused_and_named(store, engine, folder, keys):
    sign(folder, keys / "other.key.pem")
    with pytest.raises(AdapterUntrustedError, match=digest_file(keys / "other.pem")[:12]):
        store.check(folder, engine.description)


def test_a_revoked_key_and_a_revoked_adapter_are_refused(store, engine, folder, policy, keys):
    fingerprint = digest_file(keys / "one.pem")
    policy(revoked_keys=[fingerprint])
    with pytest.raises(AdapterUntrustedError, match=f"the key {fingerprint[:12]}, which was revoked by trust.yaml"):
        store.check(folder, engine.description)
    policy(revoked_adapters=[digest_file(folder / "adapter_model.safetensors")])
    with pytest.raises(AdapterUntrustedError, match="was revoked by trust.yaml"):
        store.check(folder, engine.description)
    policy()
    store.check(folder, engine.description)


def test_where_no_signature_is_required_a_bad_one_is_refused_still(store, engine, root, folder, policy, make_adapter):
    policy(require_signature=False)
    store.check(make_adapter(root / "plain", content=3), engine.description)
    flip(folder)
    with pytest.raises(AdapterUntrustedError, match="was altered after it was signed"):
        store.check(folder, engine.description)


def test_a_policy_that_cannot_be_read_lets_nothing_in_and_its_path_out_to_nobody(
    store, engine, folder, tmp_path, caplog
):
    path = tmp_path / "trust.yaml"
    for spoil in (
        lambda: path.write_text("require_signature: true\nkeys: [gone.pem]"),
        lambda: path.write_text("key: x"),
        path.unlink,
    ):
        spoil()
        caplog.clear()
        for _ in range(2):
            with pytest.raises(AdapterUntrustedError, match="cannot be read") as caught:
                store.check(folder, engine.description)
            assert str(tmp_path) not in str(caught.value)
        assert len(caplog.messages) == 1 and str(tmp_path) in caplog.text


def test_a_home_without_a_policy_asks_for_no_signature_until_there_is_one(root, settings, engine, policy, tmp_path):
    path = policy()
    content = path.read_text()
    path.unlink()
    store = AdapterStore(root, max_rank=settings.max_rank, trust=TrustFile(path))
    store.check(root / "shop-1", engine.description)
    path.write_text(content)
    with pytest.raises(AdapterUntrustedError, match="is not signed"):
        store.check(root / "shop-1", engine.description)
    path.unlink()
    with pytest.raises(AdapterUntrustedError, match="cannot be read"):
        store.check(root / "shop-1", engine.description)


def test_what_is_revoked_while_it_is_served_is_taken_off_and_stays_off(engine, store, folder, policy, keys, tmp_path):
    state = StateFile(tmp_path / "served" / "8000-base.json")

    async def serve() -> list[str]:
        registry = AdapterRegistry(engine, store, max_adapters=2, state=state)
        await registry.load("shop", "shop-1")
        assert await registry.distrust() == []
        assert registry.serves("shop") and len(engine.slots) == 1
        lease = registry.lease("shop", OPERATOR)
        policy(revoked_keys=[digest_file(keys / "one.pem")])
        problems = await registry.distrust()
        assert not registry.serves("shop")
        with pytest.raises(RequestError, match="is not served"):
            registry.lease("shop", OPERATOR)
        # the request that ran before may end
        assert len(engine.slots) == 1
        lease.release()
        await registry.drained()
        assert engine.slots == []
        return problems

    (problem,) = asyncio.run(serve())
    assert problem.startswith("shop: ") and "revoked" in problem and str(tmp_path) not in problem

    async def restart() -> tuple[list[str], list[str]]:
        again = AdapterRegistry(engine, store, max_adapters=2, state=state)
        refused = await again.restore()
        policy()
        return refused, await AdapterRegistry(engine, store, max_adapters=2, state=state).restore()

    refused, taken = asyncio.run(restart())
    assert "revoked" in refused[0] and taken == []


def test_a_policy_that_breaks_leaves_what_is_served(engine, store, folder, tmp_path):
    async def serve() -> None:
        registry = AdapterRegistry(engine, store, max_adapters=2)
        await registry.load("shop", "shop-1")
        # the last two are what a file holds while it is written
        for text in ("keys: 5", "", "require_signature: true\n"):
            (tmp_path / "trust.yaml").write_text(text)
            with pytest.raises(AdapterUntrustedError):
                await registry.distrust()
            assert registry.serves("shop")

    asyncio.run(serve())


def test_an_adapter_that_is_signed_anew_is_served_from_a_copy_with_that_signature(engine, store, folder, policy, keys):
    async def serve() -> None:
        registry = AdapterRegistry(engine, store, max_adapters=2)
        first = await registry.load("shop", "shop-1")
        sign(folder, keys / "other.key.pem")
        policy(keys=[str(keys / "other.pem")])
        second = await registry.load("shop", "shop-1", move=True)
        assert second.current.folder != first.previous.folder
        assert (second.current.folder / "signature.json").read_bytes() == (folder / "signature.json").read_bytes()
        assert await registry.distrust() == []
        await registry.drained()
        assert [version.slot for version in registry.versions] == [second.current.slot]

    asyncio.run(serve())


def test_a_revocation_is_seen_without_being_asked(engine, store, folder, policy, keys):
    async def run() -> None:
        registry = AdapterRegistry(engine, store, max_adapters=2)
        await registry.load("shop", "shop-1")
        watch = asyncio.create_task(TrustWatch(registry, every_seconds=0.01).run())
        policy(revoked_keys=[digest_file(keys / "one.pem")])
        async with asyncio.timeout(10):
            while registry.serves("shop"):
                await asyncio.sleep(0.01)
        watch.cancel()

    asyncio.run(run())
