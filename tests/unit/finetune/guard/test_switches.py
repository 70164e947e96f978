"""The switches, against the installed libraries: what they try without, and that they try nothing with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.guard.switches import SWITCHES, TOKENS, offline_environment

PROGRAM = Path(__file__).with_name("libraries_at_work.py")
LIMIT_SECONDS = 240
# measured with the versions in requirements.lock
PHONES_HOME = {"mlflow", "trl", "huggingface_hub", "transformers", "datasets", "peft"}


def tried(switches: str, folder: Path) -> list[tuple[str, str]]:
    """(library, address) of each attempt, in an environment that has nothing of this test's: no CI, no PYTEST_*."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), switches, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        env={**environment, "OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said, _, found = done.stdout.partition("\n")
    assert said == "done", "each library was put to work"
    return [tuple(one) for one in json.loads(found)]


@pytest.mark.slow
def test_without_the_switches_the_installed_libraries_phone_home(tmp_path):
    found = tried("without", tmp_path)
    assert {library for library, _ in found} == PHONES_HOME
    assert {"config.mlflow-telemetry.io", "huggingface.co"} == {address for _, address in found}


@pytest.mark.slow
def test_with_the_switches_nothing_is_tried(tmp_path):
    assert tried("with", tmp_path) == []


def test_tokens_are_taken_out_and_every_switch_wins(monkeypatch):
    given = {"HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0", "TEACHER_KEY": "kept"}
    made = offline_environment(given)
    assert made["HF_HUB_OFFLINE"] == "1" and made["TEACHER_KEY"] == "kept" and "HF_TOKEN" not in made
    code = (
        "from finetune.guard.offline import go_offline as go\ngo()\nimport json, os\nprint(json.dumps({**os.environ}))"
    )
    environment = {**os.environ, **dict.fromkeys(TOKENS, "secret"), "MLFLOW_DISABLE_TELEMETRY": "false"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    assert set(TOKENS).isdisjoint(found)
    assert {switch.variable: found[switch.variable] for switch in SWITCHES} == offline_environment({})


def test_no_variable_is_named_twice_and_each_has_its_reason():
    names = [switch.variable for switch in SWITCHES]
    assert len(names) == len(set(names))
    assert all(switch.reason and switch.package for switch in SWITCHES)
