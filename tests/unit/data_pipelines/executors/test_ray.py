"""Builds over Ray on loopback; each in a process of its own, because Ray keeps threads and sockets."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_pipelines.config import RunSection
from data_pipelines.executors.run import Stage, run_stage
from finetune.contracts.errors import MachineError
from tests.unit.data_pipelines.building import build, bytes_of, key_file

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[2]
HAS_RAY = importlib.util.find_spec("ray") is not None
with_ray = pytest.mark.skipif(not HAS_RAY, reason='Ray is not installed: pip install "finetune[scale]"')
CODE = """
import sys
from pathlib import Path
from finetune.guard.offline import go_offline
from data_pipelines.config import RunSection
from data_pipelines.executors.run import Stage, run_stage
from finetune.contracts.errors import PlatformError

go_offline()
folder, results, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
stage = Stage(f"stage_tasks:{name}", folder, tuple(results / str(number) for number in range(3)))
try:
    run_stage(stage, RunSection(executor="ray", workers=2), tick=lambda number: print("done", number))
except PlatformError as error:
    print(type(error).__name__, error)
"""


def in_process(code, *words):
    """What a program prints; every process that it started must be gone soon after."""
    before = set(psutil.pids())
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = [process for process in psutil.process_iter(["name"]) if process.pid not in before]
    _, alive = psutil.wait_procs([process for process in left if "ray" in (process.info["name"] or "")], timeout=10)
    assert not alive
    return done.stdout


@pytest.mark.slow
@with_ray
def test_a_build_over_ray_gives_the_bytes_of_a_local_one(shop, tmp_path):
    local, far = tmp_path / "local" / "shop", tmp_path / "far" / "shop"
    build([shop], local)
    pipeline = tmp_path / "pipeline.yaml"
    document = {
        "sources": [{"path": str(shop)}],
        "redact": {"key_file": str(key_file(far))},
        "run": {"executor": "ray", "workers": 2},
    }
    pipeline.write_text(json.dumps(document))
    words = ["data", "build", pipeline, "--out", far, "--home", tmp_path / "home"]
    in_process("import sys; from finetune.cli.main import run; sys.exit(run(sys.argv[1:]))", *words)
    assert bytes_of(far) == bytes_of(local)


@pytest.mark.slow
@with_ray
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("write", "done 2"),
        ("refuse", "DatasetError Row 7 is damaged."),
        ("divide", "PlatformError This is a bug: ZeroDivisionError"),
        ("die", "MachineError A worker of Ray was killed 3 times"),
    ],
)
def test_tasks_end_in_results_or_in_their_own_error(name, expected, tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "results").mkdir()
    assert expected in in_process(CODE, tmp_path / "stage", tmp_path / "results", name)


@pytest.mark.slow
@with_ray
def test_every_server_of_ray_listens_on_loopback_alone(tmp_path):
    folder, results = tmp_path / "stage", tmp_path / "results"
    folder.mkdir()
    results.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    child = psutil.Popen([sys.executable, "-c", CODE, str(folder), str(results), "sleep"], env=environment)
    try:
        deadline = time.monotonic() + 90
        while not list(folder.glob("at-work-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        found = [
            (process.name(), place.laddr.ip)
            for process in (child, *child.children(recursive=True))
            for place in process.net_connections("inet")
            if place.status == psutil.CONN_LISTEN
        ]
    finally:
        child.terminate()
        child.wait(30)
    assert len(found) >= 4
    assert {address for _, address in found} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    stage = Stage("stage_tasks:write", tmp_path, (tmp_path / "0",))
    with pytest.raises(MachineError, match=r'pip install "finetune\[scale\]"'):
        run_stage(stage, RunSection(executor="ray"), tick=lambda number: None)
