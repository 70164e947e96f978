"""Builds over a cluster of one machine: see slurm_stand_in.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import psutil
import pytest

from data_pipelines.config import RunSection
from data_pipelines.executors import run as executors
from data_pipelines.executors import slurm as slurm_executor
from data_pipelines.executors.run import Stage, run_stage
from finetune.contracts.egress import EGRESS_NAME
from finetune.contracts.errors import DatasetError, MachineError, PlatformError
from finetune.guard.record import JOURNAL_VARIABLE, read_untold
from tests.unit.data_pipelines.building import build, bytes_of, key_file

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[2]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder in which the stand-in notes jobs; its programs are first in PATH."""
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "python"):
        stand_in = "" if name == "python" else f'"{HERE / "slurm_stand_in.py"}" {name}'
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {stand_in} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HERE}")
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setattr(slurm_executor, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(executors, "CLUSTER_POLL_SECONDS", 0.1)
    monkeypatch.setattr(executors, "LAG_SECONDS", 0.5)
    yield jobs
    for path in jobs.glob("*/pid"):
        if psutil.pid_exists(int(path.read_text())):
            os.killpg(int(path.read_text()), signal.SIGKILL)


def section(**settings):
    return RunSection(executor="slurm", slurm_partition="cpu", **settings)


def stage(tmp_path, name, *, num_tasks=3):
    """A stage of tasks of stage_tasks.py, in a folder whose name has a space."""
    folder, results = tmp_path / "a stage", tmp_path / "results"
    folder.mkdir(exist_ok=True)
    results.mkdir(exist_ok=True)
    return Stage(f"stage_tasks:{name}", folder, tuple(results / str(number) for number in range(num_tasks)))


def run(made, **settings):
    done = []
    run_stage(made, section(**settings), tick=done.append)
    return sorted(done)


@pytest.mark.slow
def test_a_build_on_a_cluster_gives_the_bytes_of_a_local_one(cluster, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local, far = tmp_path / "local" / "shop", tmp_path / "far" / "shop"
    build([shop], local)
    setup = f"export PATH={tmp_path / 'bin'}:$PATH"
    run_section = {"executor": "slurm", "slurm_partition": "cpu", "slurm_setup": setup, "workers": 2}
    build([shop], far, run=run_section)
    assert bytes_of(far) == bytes_of(local)
    scripts = [path.read_text() for path in cluster.glob("*/script")]
    assert len(scripts) >= 3
    assert not any("mail" in script or "merge_stats" in script for script in scripts)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "jobs", "local", "far"}, "nothing in odd places"
    assert not list((tmp_path / "far").rglob("slurm_logs")), "logs of a build that went well are gone"


@pytest.mark.slow
def test_a_build_whose_parent_was_killed_goes_on_beside_jobs_that_still_run(cluster, shop, tmp_path):
    local, far = tmp_path / "local" / "shop", tmp_path / "far" / "shop"
    build([shop], local)
    pipeline = tmp_path / "pipeline.yaml"
    document = {
        "sources": [{"path": str(shop)}],
        "redact": {"key_file": str(key_file(far))},
        "run": {"executor": "slurm", "workers": 2},
    }
    pipeline.write_text(json.dumps(document))
    words = ["data", "build", str(pipeline), "--out", str(far), "--home", str(tmp_path / "home")]
    command = [
        sys.executable,
        "-c",
        "import sys; from finetune.cli.main import run; sys.exit(run(sys.argv[1:]))",
        *words,
    ]
    for number in (1, 3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            deadline = time.monotonic() + 60
            while not (cluster / str(number) / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            child.kill()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # of the command, not of the rows
    (far / EGRESS_NAME).unlink()
    assert bytes_of(far) == bytes_of(local)


@pytest.mark.slow
def test_tasks_run_in_a_folder_with_a_space_and_only_those_without_result(cluster, tmp_path):
    made = stage(tmp_path, "write")
    made.targets[1].write_text("there")
    assert run(made, slurm_options={"account": "ml"}) == [0, 2]
    assert [target.read_text() for target in made.targets] == ["0", "there", "2"]
    script = (cluster / "1" / "script").read_text()
    assert "#SBATCH --array=0-1\n" in script
    assert "#SBATCH --account=ml\n" in script
    assert sorted(path.name for path in (made.logs / "slurm_logs").iterdir()) == ["1_0.out", "1_1.out"]


@pytest.mark.slow
def test_an_error_of_a_task_comes_back_with_its_kind(cluster, tmp_path):
    with pytest.raises(DatasetError, match="Row 7 is damaged"):
        run(stage(tmp_path, "refuse"))


@pytest.mark.slow
def test_a_defect_comes_back_with_its_place_and_without_values(cluster, tmp_path):
    made = stage(tmp_path, "divide")
    with pytest.raises(PlatformError, match=r"ZeroDivisionError.*stage_tasks.py:\d+.* in task 1 of a stage"):
        run(made)
    logs = [path for path in made.logs.rglob("*") if path.is_file() and path.suffix in (".log", ".out")]
    assert logs
    assert not any("hunter2" in path.read_text() for path in logs), "a traceback with values would quote texts"


@pytest.mark.slow
def test_a_job_that_dies_ends_in_an_error_that_names_the_logs(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STAND_IN_KILLS", "1")
    made = stage(tmp_path, "write")
    with pytest.raises(MachineError, match="1 of 3 tasks of a stage gave no result") as caught:
        run(made)
    assert str(made.logs) in caught.value.hint
    monkeypatch.delenv("SLURM_STAND_IN_KILLS")
    assert run(made) == [1], "the same command goes on"


@pytest.mark.parametrize("reason", ["JobHeldAdmin", "launch failed requeued held"])
def test_a_job_that_will_never_run_is_an_error_and_is_cancelled(reason, cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STAND_IN_HELD", reason)
    with pytest.raises(MachineError, match=f"will never run: PENDING {reason}"):
        run(stage(tmp_path, "write"))
    assert (cluster / "1" / "cancelled").exists()


def test_a_refused_job_is_one_message(cluster, tmp_path):
    with pytest.raises(MachineError, match="sbatch refused the job"):
        run(stage(tmp_path, "write"), slurm_options={"qos": ""}, slurm_time="")


def test_no_slurm_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="sbatch is not in PATH"):
        run(stage(tmp_path, "write"))


def test_who_gives_up_cancels_the_jobs(cluster, tmp_path):
    made = stage(tmp_path, "sleep")
    first = []

    def appear():
        # the result of one task comes from elsewhere once another is at work
        while not (made.folder / "at-work-1").exists():
            time.sleep(0.05)
        made.targets[2].touch()

    def give_up(number):
        first.append(number)
        raise KeyboardInterrupt

    Thread(target=appear, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_stage(made, section(), tick=give_up)
    assert first == [2]
    assert (cluster / "1" / "cancelled").exists()


@pytest.mark.parametrize(
    ("num_tasks", "workers", "expected"), [(3, 0, 1), (10_000, 0, 8), (64, 4, 4), (8, 2, 1), (100_000, 10, 8)]
)
def test_a_job_does_several_tasks_where_there_are_many(num_tasks, workers, expected, tmp_path):
    options = {
        "pipeline": [],
        "tasks": num_tasks,
        "logging_dir": str(tmp_path),
        "skip_completed": False,
        "workers": workers or -1,
    }
    assert slurm_executor.SlurmExecutor.of(section(), options, job_name="x").tasks_per_job == expected


def test_what_a_job_tries_comes_back_into_the_record_of_the_command(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    made = stage(tmp_path, "call_out")
    assert run(made) == [0, 1, 2]
    found = read_untold()
    assert [attempt.address for attempt in found.attempts] == ["192.0.2.1"]
    assert found.attempts[0].process in {process.pid for process in found.processes}
    assert list(made.logs.glob("egress-*")) == []
