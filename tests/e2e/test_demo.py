"""`make demo`, watched at the system calls where only loopback exists: the loop works and nothing leaves."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.contracts.dataset import Task

from .egress import ROOT, TRACE, instrument, report

BIN = Path(sys.executable).parent
CONSOLE_SCRIPT = BIN / "finetune"
DEMO_SECONDS = 1500.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo of this clone, but in a home of its own: (result document, home, what the trace reports, stderr)."""
    folder = tmp_path_factory.mktemp("demo")
    # -o: nothing can be installed where nothing can be fetched
    make = ["make", "-s", "-C", str(ROOT), "-o", ".venv/.installed", "demo", f"BIN={BIN}"]
    make.append(f"DEMO=--home {folder / 'home'} --json")
    done = instrument(TRACE, folder / "evidence", make, timeout_seconds=DEMO_SECONDS)
    found = report(folder / "evidence")
    assert found["exit_code"] == 0, done.stderr[-4000:]
    return json.loads(done.stdout), folder / "home", found, done.stderr


def test_the_demo_tries_nothing_but_loopback(demo):
    _, _, found, _ = demo
    assert found["attempts"] == []
    assert found["figures"]["to_loopback"]["127.0.0.1"], "the demo talks to its own server, so the trace must show that"
    assert found["figures"]["sockets_of_others"] == {}, "a process beside could carry something out"
    assert not {"CI", "PYTEST_CURRENT_TEST", "HF_HUB_OFFLINE", "DO_NOT_TRACK"} & found["environment"].keys()


def test_the_adapter_is_better_on_held_out_bits_per_byte(demo):
    result, _, _, _ = demo
    primary = result["scores"][0]
    assert primary["name"] == "bits per byte"
    assert primary["adapter"] < primary["base"]
    assert primary["high"] < 0 and primary["verdict"] == "better"


def test_every_task_gave_examples_and_the_answers_differ_in_origin(demo):
    result, _, _, _ = demo
    # this repository has no reviews, and no teacher is named
    assert {row["task"] for row in result["dataset"]["counts"]} == set(Task) - {Task.REVIEW_FIX, Task.QA}
    assert result["answers"]["wanted"]
    assert {"base", "adapter", "adapter_model"} <= result["answers"].keys()


def test_the_run_and_its_adapter_are_what_the_commands_show(demo):
    result, home, _, _ = demo
    runs = shown("runs", "list", "--home", str(home))["runs"]
    assert [run["run_id"] for run in runs] == [result["run"]["run_id"]]
    assert result["training"]["last_loss"] < result["training"]["first_loss"]
    assert runs[0]["status"] == "finished" and runs[0]["verdict"] == "better"
    adapters = shown("adapter", "list", "--home", str(home))["adapters"]
    assert adapters[0]["adapter_id"] == result["run"]["adapter_id"]
    assert [score["name"] for score in adapters[0]["scores"]] == [score["name"] for score in result["scores"]]
    assert shown("adapter", "verify", adapters[0]["adapter_id"], "--home", str(home))["valid"]


def test_progress_is_plain_lines_when_piped(demo):
    _, _, _, stderr = demo
    assert "[4/4]" in stderr and "\r" not in stderr and "Traceback" not in stderr


def shown(*arguments: str) -> dict:
    done = subprocess.run([str(CONSOLE_SCRIPT), *arguments, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
