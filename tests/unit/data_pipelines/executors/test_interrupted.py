"""Builds that are ended from outside: nothing of theirs goes on, and the next one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_pipelines.config import RunSection
from data_pipelines.executors.run import Stage, run_stage
from finetune.contracts.errors import DatasetError, MachineError, PlatformError
from finetune.terminal.signals import interrupted_by_signals
from tests.unit.data_pipelines import stage_tasks

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[2]
# a command that runs one stage, guarded as every command is
CODE = """
import signal
import sys
from pathlib import Path
# as at a terminal: whoever runs the tests in the background may ignore these
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from data_pipelines.config import RunSection
from data_pipelines.executors.run import Stage, run_stage
from finetune.cli.errors import run_guarded
from finetune.terminal.signals import interrupted_by_signals

def body():
    folder = Path(sys.argv[1])
    stage = Stage("stage_tasks:sleep", folder, tuple(folder / f"result-{number}" for number in range(20)))
    with interrupted_by_signals():
        run_stage(stage, RunSection(workers=2), tick=print)

sys.exit(run_guarded(body, debug=False, as_json=False))
"""


@pytest.fixture
def at_work(tmp_path):
    """A command whose two workers are at work, in a session of its own, and all processes of it."""
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("at-work-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    family = psutil.Process(child.pid).children(recursive=True)
    # tracker, forkserver, two workers and a child of each
    assert len(family) == 6
    yield child, family
    for process in [*family, child]:
        if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
            process.kill()
    child.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [False, True])
def test_an_interrupted_stage_ends_at_once_and_leaves_nobody(number, whole_group, at_work):
    child, family = at_work
    (os.killpg if whole_group else os.kill)(child.pid, number)
    # far less than the tasks would take
    _, said = child.communicate(timeout=15)
    assert child.returncode == 130
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_killed_stage_leaves_nobody(at_work):
    child, family = at_work
    child.kill()
    child.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def run(name, folder, *, num_tasks=3):
    done = []
    stage = Stage(f"{stage_tasks.__name__}:{name}", folder, tuple(folder / str(place) for place in range(num_tasks)))
    run_stage(stage, RunSection(workers=2), tick=done.append)
    return sorted(done)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("refuse", DatasetError, "Row 7 is damaged."),
        ("divide", PlatformError, r"This is a bug: ZeroDivisionError: .*stage_tasks.py:\d+\) in task 1 of "),
        ("die", MachineError, "A worker process was killed"),
    ],
)
def test_an_error_in_a_worker_is_one_of_ours(name, kind, expected, tmp_path):
    with pytest.raises(kind, match=expected):
        run(name, tmp_path)
    (tmp_path / "1").touch()
    assert run("write", tmp_path, num_tasks=2) in ([], [0]), "what is there stays"


def test_workers_get_all_tasks_without_result(tmp_path):
    (tmp_path / "4").touch()
    assert run("write", tmp_path, num_tasks=9) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_build_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted_by_signals():
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
