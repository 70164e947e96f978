"""Sign, verify and list what went into an adapter, as one types it: in a fresh process, and without a model library."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.contracts.io import digest_file
from tests.unit.bare_adapters import save_bare_adapter

ROOT = Path(__file__).parents[4]
RUN = """
import sys
from finetune.cli.main import run
code = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with an adapter, and two key pairs of which the one called locked has the password open."""
    folder = tmp_path_factory.mktemp("site")
    save_bare_adapter(folder / "handover")
    for name, lock in (("locked", ("-aes256", "-pass", "pass:open")), ("other", ())):
        private, public = folder / f"{name}.key.pem", folder / f"{name}.pem"
        curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
        for words in (
            ("genpkey", "-algorithm", "EC", *curve, *lock, "-out", private),
            ("pkey", "-in", private, "-passin", "pass:open", "-pubout", "-out", public),
        ):
            subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    (folder / "password").write_text("open\n")
    return folder


def type_in(site: Path, *words: str) -> tuple[int, dict, set[str]]:
    """Exit code, document and loaded modules of `finetune adapter WORDS --json`; nobody answers questions."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "adapter", *words, "--json"], check=False, cwd=site, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT), "HOME": str(site)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout), set(done.stderr.split())


def test_sign_and_verify_need_no_model_library(site):
    code, document, loaded = type_in(site, "sign", "handover", "--key", "locked.key.pem", "--password-file", "password")
    assert code == 0 and document["signer"] == digest_file(site / "locked.pem")
    assert not loaded & {"torch", "transformers", "peft", "mlflow", "safetensors"}

    code, document, _ = type_in(site, "verify", "handover", "--trust", "locked.pem")
    assert (code, document["valid"], document["signer"]) == (0, True, digest_file(site / "locked.pem"))
    code, document, _ = type_in(site, "verify", "handover", "--trust", "other.pem")
    assert code == 3 and "no key that is trusted" in json.dumps(document)

    (site / ".finetune").mkdir()
    (site / ".finetune" / "trust.yaml").write_text("require_signature: true\nkeys: [../other.pem]\n")
    assert type_in(site, "verify", "handover")[0] == 3
    (site / ".finetune" / "trust.yaml").write_text("require_signature: true\nkey: [../other.pem]\n")
    code, document, _ = type_in(site, "verify", "handover")
    assert code == 3 and "did you mean keys?" in json.dumps(document)
    shutil.rmtree(site / ".finetune")


def test_the_password_is_asked_of_nobody_where_nobody_is(site):
    code, document, _ = type_in(site, "sign", "handover", "--key", "locked.key.pem")
    assert code == 2 and "--password-file" in json.dumps(document)


def test_an_adapter_of_a_stranger_does_not_steer_the_terminal(site):
    hostile = Path(shutil.copytree(site / "handover", site / "hostile"))
    (hostile / "\x1b[2J.md").write_text("more")
    code, document, _ = type_in(site, "verify", "hostile")
    assert code == 3 and "is not part of" in document["message"]


def test_the_bill_of_materials_is_written_where_it_is_asked_for(site):
    code, document, loaded = type_in(site, "bom", "handover", "--out", "ours.cdx.json")
    assert (code, document["libraries"]) == (0, 0)
    written = json.loads((site / "ours.cdx.json").read_text())
    assert written["metadata"]["component"]["name"] == document["adapter"]
    assert written["metadata"]["properties"] == [{"name": "finetune:libraries", "value": "not recorded"}]
    assert "torch" not in loaded
