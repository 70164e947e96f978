"""OpenSSF's own tool and this project read each other's signatures, by the Python of an environment of its own.

Its pins are not this project's: `python -m venv DIR && DIR/bin/pip install model-signing==1.1.1 pyOpenSSL`, then
FINETUNE_MODEL_SIGNING_PYTHON=DIR/bin/python. What it signed once lies in tests/assets/signing, and is verified always.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from finetune.adapters.sign import sign_adapter
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import SignatureError
from finetune.contracts.signature import load_trusted_key, verify_signature

TOOL = os.environ.get("FINETUNE_MODEL_SIGNING_PYTHON")
ADAPTER = Path(__file__).parents[1] / "assets" / "signing" / "adapter"

pytestmark = pytest.mark.skipif(not TOOL, reason="FINETUNE_MODEL_SIGNING_PYTHON names no Python with model-signing")


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> tuple[Path, Path]:
    """A private and a public key, from openssl."""
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "key.pem", folder / "public.pem"
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", *curve, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = Path(shutil.copytree(ADAPTER, tmp_path / "handover"))
    (folder / "signature.json").unlink()
    return folder


def tool(verb: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """model_signing VERB key, over a folder and its signature.json, as somebody without this project types it."""
    words = [verb, "key", "--signature", folder / "signature.json", *arguments, folder]
    return subprocess.run(
        [TOOL, "-m", "model_signing", *map(str, words)],
        check=False, cwd=folder.parent, env={"HOME": str(folder.parent)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_tool_verifies_what_is_signed_here_and_finds_each_change(adapter, keys):
    private, public = keys
    sign_adapter(adapter, private, password=str)
    found = tool("verify", adapter, "--public_key", public)
    assert found.returncode == 0, found.stdout + found.stderr

    weights = adapter / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = tool("verify", adapter, "--public_key", public)
    assert found.returncode != 0 and "Hash mismatch for 'adapter_model.safetensors'" in found.stderr

    weights.write_bytes(content)
    (adapter / "extra.md").write_text("more")
    found = tool("verify", adapter, "--public_key", public)
    assert found.returncode != 0 and "extra.md" in found.stderr


def test_what_the_tool_signs_is_verified_here(adapter, keys):
    private, public = keys
    assert tool("sign", adapter, "--private_key", private).returncode == 0
    trusted = load_trusted_key(public)
    assert verify_signature(adapter, read_adapter(adapter), [trusted]) == trusted.fingerprint
    with pytest.raises(SignatureError):
        verify_signature(adapter, read_adapter(adapter), [load_trusted_key(ADAPTER.parent / "release.pem")])
