"""litellm and aider against a real server, each by the Python of an environment of its own, which a variable names.

Their pins are not this project's: `python -m venv DIR && DIR/bin/pip install litellm==1.109.1` (or aider-chat==0.86.2),
then FINETUNE_LITELLM_PYTHON=DIR/bin/python (or FINETUNE_AIDER_PYTHON).
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from finetune.contracts.run import Home
from serving.access.keys import KeyFile
from serving.access.scopes import Scope
from serving.run import running_server
from serving.settings import ServerSettings

LITELLM = os.environ.get("FINETUNE_LITELLM_PYTHON")
AIDER = os.environ.get("FINETUNE_AIDER_PYTHON")
pytestmark = pytest.mark.slow
ASK_WITH_LITELLM = Path(__file__).with_name("ask_with_litellm.py")
# litellm else asks for a list of prices on the internet
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": os.defpath, "TERM": "dumb"}
# aider else asks for that on the internet
KNOWN = {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 14336, "max_output_tokens": 2048}
QUIET = ("--yes-always", "--no-pretty", "--no-check-update", "--analytics-disable", "--no-show-release-notes")


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    """A home with one key, and the key."""
    home = Home(tmp_path_factory.mktemp("home"))
    return home, KeyFile.within(home.served).create("admin", scopes=[Scope.ADMIN], adapters=[])[1]


@pytest.fixture(scope="module")
def client(tiny_base: Path, adapters: Path, admin: tuple[Home, str]) -> Iterator[openai.OpenAI]:
    """The official client of a server that serves shop."""
    home, key = admin
    with (
        running_server(tiny_base, adapters, home=home, settings=ServerSettings(max_tokens=32)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120) as one,
    ):
        one.post("/load_lora_adapter", body={"lora_name": "shop", "lora_path": "good"}, cast_to=object)
        yield one


def run(command: list[str], folder: Path) -> str:
    """What a command with a home of its own says; it must succeed."""
    environment = {**OFFLINE, "HOME": str(folder)}
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not LITELLM, reason="FINETUNE_LITELLM_PYTHON names no Python with litellm")
def test_litellm_gets_what_the_official_client_gets(client, tmp_path):
    """Whole and streamed, in a loop and without one, with a suffix and without."""
    command = [str(LITELLM), str(ASK_WITH_LITELLM), str(client.base_url), client.api_key, "shop"]
    answers = json.loads(run(command, tmp_path))
    asked = {"model": "shop", "max_tokens": 8, "temperature": 0}
    chat = client.chat.completions.create(messages=[{"role": "user", "content": "def add(a, b):"}], **asked)
    text = client.completions.create(prompt="def add(", **asked).choices[0].text
    infill = client.completions.create(prompt="def add(", suffix=")", **asked).choices[0].text
    said, tokens = chat.choices[0].message.content, str(chat.usage.total_tokens)
    assert text != infill
    assert answers == {
        **dict.fromkeys(("chat", "stream", "async chat", "async stream"), said),
        **dict.fromkeys(("suffix", "suffix stream", "async suffix"), infill),
        **dict.fromkeys(("tokens", "streamed tokens"), tokens),
        "text": text,
    }


@pytest.mark.skipif(not AIDER, reason="FINETUNE_AIDER_PYTHON names no Python with aider")
def test_aider_is_answered(client, tmp_path):
    """With nonsense, which it shows; a refusal it shows too, and ends with 0 as well."""
    (tmp_path / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (tmp_path / ".aider.model.metadata.json").write_text(
        json.dumps({f"openai/{name}": KNOWN for name in ("shop", "no")})
    )
    command = [str(AIDER), "-m", "aider", *QUIET, "--no-git", "--message", "add() must add.", "calc.py"]
    command += ["--openai-api-base", str(client.base_url), "--openai-api-key", client.api_key, "--model"]
    before = num_answers(client, "shop")
    said = run([*command, "openai/shop"], tmp_path)
    assert num_answers(client, "shop") == before + 1
    assert "litellm." not in said and "HTTPSConnection" not in said, said
    assert "litellm.NotFoundError" in run([*command, "openai/no"], tmp_path)


def num_answers(client: openai.OpenAI, model: str) -> float:
    """How many answers of the model came to their end."""
    text = httpx.get(str(client.base_url.join("/metrics")), headers=client.auth_headers).text
    lines = [line for line in text.splitlines() if line.startswith("finetune_answers_total") and f'"{model}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines if "cancelled" not in line)
