"""The commands themselves, each a process in its jail, with the servers that the user named outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.mlflow_server import Server
from tests.unit.data_pipelines.conftest import save_shop
from tests.unit.data_pipelines.questions.test_qa_in_build import School

pytestmark = pytest.mark.slow
COMMAND_SECONDS = 120.0


def started(words: Sequence[str]) -> "subprocess.Popen[str]":
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "finetune", *words], text=True, **pipes)


def network_of(process: int) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/net")
    except OSError:
        return ""


def jailed(words: Sequence[str]) -> str:
    """Run a command line to its good end; returns its stdout. It must be seen in a network of its own."""
    process = started(words)
    ours = network_of(os.getpid())
    deadline = time.monotonic() + COMMAND_SECONDS
    while network_of(process.pid) == ours and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    seen = network_of(process.pid)
    stdout, stderr = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == 0, stderr
    assert seen not in (ours, "")
    return stdout


@pytest.fixture
def school() -> Iterator[School]:
    made = School()
    yield made
    made.close()


@pytest.fixture
def pipeline(tmp_path: Path, school: School) -> Path:
    """The file of a pipeline with the teacher that stands outside."""
    repo = save_shop(tmp_path / "shop").path
    path = tmp_path / "pipeline.yaml"
    teacher = f"teacher: {{url: '{school.url}', model: local}}"
    path.write_text(
        f"sources: [{{path: {repo}}}]\ntasks: {{qa: {{max_seeds_per_source: 8, {teacher}}}}}\nrun: {{workers: 1}}\n"
    )
    return path


def test_a_build_asks_the_teacher_that_it_names_from_its_jail(pipeline: Path, school: School, tmp_path: Path) -> None:
    words = ["data", "build", str(pipeline), "--out", str(tmp_path / "out"), "--home", str(tmp_path / "home"), "--json"]
    built = json.loads(jailed([*words, "--jail", "namespace"]))
    assert school.seen
    assert "qa" in {row["task"] for row in built["counts"]}
    refused = started([*words, "--jail", "seccomp"])
    _, stderr = refused.communicate(timeout=COMMAND_SECONDS)
    assert refused.returncode == 4
    port = school.url.split(":")[2].split("/")[0]
    assert f"--jail seccomp cannot hold here: 127.0.0.1:{port} was named" in stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")

    made.start()
    yield made
    made.kill()


def test_a_run_is_recorded_on_the_server_outside(unit: Any, tiny_base: Path, tmp_path: Path, server: Server) -> None:
    dataset = unit.save_dataset(tmp_path / "dataset", unit.mixed_examples(8))
    recipe = unit.write_tiny_recipe(tmp_path, tiny_base, dataset)
    words = [
        "train",
        str(recipe),
        "--set",
        f"track.server={server.address}",
        "--home",
        str(tmp_path / "home"),
        "--json",
    ]
    state = json.loads(jailed(words))
    assert state["status"] == "finished"
    run = server.client().get_run(state["tracking_run_id"])
    assert run.info.status == "FINISHED" and "train/loss" in run.data.metrics
