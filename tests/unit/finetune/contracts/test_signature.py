"""A signature is by a trusted key and over each file of the folder, or the adapter is refused by name."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from finetune.adapters.sign import sign_adapter
from finetune.contracts.adapter_files import list_files, read_adapter, read_manifest, write_manifest
from finetune.contracts.errors import AdapterError, SignatureError
from finetune.contracts.io import digest_file
from finetune.contracts.signature import load_trusted_key, verify_signature
from finetune.contracts.signature_form import signed_bytes
from tests.unit.bare_adapters import save_bare_adapter

ASSETS = Path(__file__).parents[3] / "assets" / "signing"
P256 = ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """A folder of key pairs as openssl makes them: one, other, and locked, whose password is "open"."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("one", "other", "locked"):
        lock = ("-aes256", "-pass", "pass:open") if name == "locked" else ()
        openssl("genpkey", "-algorithm", *P256, *lock, "-out", folder / f"{name}.key.pem")
        openssl(
            "pkey", "-in", folder / f"{name}.key.pem", "-passin", "pass:open", "-pubout", "-out", folder / f"{name}.pem"
        )
    return folder


def sign(folder: Path, key: Path, password: str = "") -> str:
    return sign_adapter(folder, key, password=lambda: password)[1]


def verify(folder: Path, *keys: Path) -> str:
    return verify_signature(folder, read_adapter(folder), [load_trusted_key(key) for key in keys])


@pytest.fixture
def folder(tmp_path, keys) -> Path:
    """A signed adapter."""
    made = save_bare_adapter(tmp_path / "shop")
    sign(made, keys / "one.key.pem")
    return made


def change(folder: Path, bundle) -> None:
    """Put bundle(document) in place of the signature's document."""
    path = folder / "signature.json"
    document = json.loads(path.read_text())
    bundle(document)
    path.write_text(json.dumps(document))


def test_who_signed_is_told_as_sha256sum_tells_of_the_public_key(folder, keys):
    assert verify(folder, keys / "other.pem", keys / "one.pem") == digest_file(keys / "one.pem")


def test_what_the_openssf_tool_signed_is_verified():
    signer = verify(ASSETS / "adapter", ASSETS / "release.pem")
    assert signer == digest_file(ASSETS / "release.pem")


def test_a_signature_of_the_openssf_tool_holds_no_altered_manifest(tmp_path):
    folder = Path(shutil.copytree(ASSETS / "adapter", tmp_path / "adapter"))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "created_at": 1, "seal": ""}))
    with pytest.raises(SignatureError, match=r"manifest\.json was altered after it was signed"):
        verify(folder, ASSETS / "release.pem")


def test_an_encrypted_key_is_opened_with_its_password_alone(folder, keys):
    assert sign(folder, keys / "locked.key.pem", "open") == digest_file(keys / "locked.pem")
    assert verify(folder, keys / "locked.pem")
    with pytest.raises(SignatureError, match="does not open with this password"):
        sign(folder, keys / "locked.key.pem", "shut")


def test_an_adapter_without_a_signature_is_told(folder, keys):
    (folder / "signature.json").unlink()
    with pytest.raises(SignatureError, match="shop is not signed"):
        verify(folder, keys / "one.pem")


def test_the_signature_of_a_key_that_is_not_trusted_is_refused(folder, keys):
    named = digest_file(keys / "one.pem")[:12]
    with pytest.raises(SignatureError, match=f"names another, '{named}'"):
        verify(folder, keys / "other.pem")


def test_the_name_of_a_trusted_key_is_not_its_signature(folder, keys):
    hint = digest_file(keys / "other.pem")
    change(folder, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=hint))
    with pytest.raises(SignatureError, match="by none of them, or was altered"):
        verify(folder, keys / "other.pem")


def test_without_the_name_of_a_key_all_are_tried(folder, keys):
    change(folder, lambda bundle: bundle["verificationMaterial"]["publicKey"].pop("hint"))
    assert verify(folder, keys / "other.pem", keys / "one.pem") == digest_file(keys / "one.pem")


def test_each_flipped_bit_of_the_signature_is_refused_or_means_the_same(folder, keys):
    path, trusted, manifest = folder / "signature.json", [load_trusted_key(keys / "one.pem")], read_adapter(folder)
    content = path.read_bytes()
    for place in range(0, len(content) * 8, 41):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert verify_signature(folder, manifest, trusted) == trusted[0].fingerprint
        except SignatureError as error:
            assert "signature.json" in error.message


def test_an_altered_adapter_whose_manifest_was_made_to_fit_is_refused(folder, keys):
    signature = (folder / "signature.json").read_bytes()
    shutil.rmtree(folder)
    save_bare_adapter(folder, content=7)
    (folder / "signature.json").write_bytes(signature)
    with pytest.raises(SignatureError, match=r"adapter_model\.safetensors was altered after it was signed"):
        verify(folder, keys / "one.pem")


def test_a_file_that_came_later_is_named(folder, keys):
    (folder / "notes.md").write_text("more")
    with pytest.raises(AdapterError, match=r"notes\.md is not part of"):
        read_adapter(folder)
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": list_files(folder)}))
    with pytest.raises(SignatureError, match=r"manifest\.json was altered|notes\.md came after"):
        verify(folder, keys / "one.pem")


@pytest.mark.parametrize("kind", ["curve", "rsa", "public", "text"])
def test_other_keys_are_refused(folder, keys, tmp_path, kind):
    path = tmp_path / "key.pem"
    if kind == "curve":
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", path)
    elif kind == "rsa":
        openssl("genpkey", "-algorithm", "RSA", "-out", path)
    else:
        path.write_bytes((keys / "one.pem").read_bytes() if kind == "public" else b"no key")
    with pytest.raises(SignatureError, match=r"key\.pem"):
        sign(folder, path)
    with pytest.raises(SignatureError, match=r"holds no public key"):
        load_trusted_key(keys / "one.key.pem")


def test_a_public_key_of_another_curve_is_not_trusted(tmp_path):
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", tmp_path / "key.pem")
    openssl("pkey", "-in", tmp_path / "key.pem", "-pubout", "-out", tmp_path / "public.pem")
    with pytest.raises(SignatureError, match="not one of ECDSA over the curve P-256"):
        load_trusted_key(tmp_path / "public.pem")


def other_predicate(statement) -> None:
    statement["predicateType"] = "https://slsa.dev/provenance/v1"


def links_allowed(statement) -> None:
    statement["predicate"]["serialization"]["allow_symlinks"] = True


def other_subject(statement) -> None:
    statement["subject"][0]["digest"]["sha256"] = "0" * 64


def named_twice(statement) -> None:
    statement["predicate"]["resources"].append(statement["predicate"]["resources"][0])


@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (other_predicate, "predicateType"),
        (links_allowed, "allow_symlinks"),
        (other_subject, "contradicts itself"),
        (named_twice, "names a file twice"),
    ],
)
def test_a_statement_that_is_none_of_a_model_is_refused_though_the_key_signed_it(folder, keys, alter, match):
    private = load_pem_private_key((keys / "one.key.pem").read_bytes(), None)

    def replaced(bundle) -> None:
        envelope = bundle["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        alter(statement)
        payload = json.dumps(statement).encode()
        signature = private.sign(signed_bytes(payload), ECDSA(SHA256()))
        envelope["payload"] = base64.b64encode(payload).decode()
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    change(folder, replaced)
    with pytest.raises(SignatureError, match=match):
        verify(folder, keys / "one.pem")


def test_signing_does_not_bless_a_damaged_adapter(folder, keys):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(AdapterError, match=r"adapter_config\.json has 2 bytes"):
        sign(folder, keys / "one.key.pem")
