"""A real server with a policy: what it loads, what it refuses before it is loaded, and what it lets go when revoked."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from finetune.adapters.sign import sign_adapter
from finetune.contracts.adapter_files import list_files, read_manifest, write_manifest
from finetune.contracts.io import digest_file, write_text
from serving.run import running_server
from serving.settings import ServerSettings

DEADLINE_SECONDS = 30.0
WEIGHTS = "adapter_model.safetensors"

pytestmark = pytest.mark.slow


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-4] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def add_a_file(folder: Path) -> None:
    (folder / "more.md").write_text("more")


def forge(folder: Path) -> None:
    """A flipped bit, and a manifest made to fit by who may write the folder."""
    flip_a_bit(folder)
    manifest = read_manifest(folder)
    digests = manifest.digests.model_copy(update={"weights": digest_file(folder / WEIGHTS)})
    write_manifest(folder, manifest.model_copy(update={"digests": digests, "files": list_files(folder)}))


def unsign(folder: Path) -> None:
    (folder / "signature.json").unlink()


def test_a_server_loads_what_is_signed_and_lets_go_what_is_revoked(
    tiny_base: Path, adapters: Path, tmp_path: Path
) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "release.pem"
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", *curve, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    root = tmp_path / "adapters"
    shutil.copytree(adapters / "good", root / "good")
    sign_adapter(root / "good", private, password=str)
    spoils: dict[str, tuple[Callable[[Path], None], int, str]] = {
        "flipped": (flip_a_bit, 400, "invalid_adapter"),
        "extra": (add_a_file, 400, "invalid_adapter"),
        "forged": (forge, 403, "adapter_not_trusted"),
        "unsigned": (unsign, 403, "adapter_not_trusted"),
    }
    for name, (spoil, _, _) in spoils.items():
        shutil.copytree(root / "good", root / name)
        spoil(root / name)
    policy = tmp_path / "trust.yaml"
    text = "require_signature: true\nkeys: [release.pem]\n"
    write_text(policy, text)

    with (
        running_server(tiny_base, root, settings=ServerSettings(trust=policy)) as url,
        httpx.Client(base_url=f"{url}/v1", timeout=120, trust_env=False) as client,
    ):
        for name, (_, status, code) in spoils.items():
            answer = client.post("/load_lora_adapter", json={"lora_name": "shop", "lora_path": name})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
            assert name in answer.json()["error"]["message"]
        assert client.get("/adapters").json()["versions"] == []
        assert client.post("/load_lora_adapter", json={"lora_name": "shop", "lora_path": "good"}).status_code == 200
        ask = {"model": "shop", "prompt": "def f():", "max_tokens": 2}
        assert client.post("/completions", json=ask).status_code == 200

        write_text(policy, f"{text}revoked_keys: [{digest_file(public)}]\n")
        until = time.monotonic() + DEADLINE_SECONDS
        while client.get("/adapters").json()["versions"]:
            assert time.monotonic() < until, "a revoked adapter is served still"
            time.sleep(0.1)
        assert client.post("/completions", json=ask).status_code == 404
        answer = client.post("/load_lora_adapter", json={"lora_name": "shop", "lora_path": "good"})
        assert answer.status_code == 403 and "was revoked" in answer.json()["error"]["message"]
