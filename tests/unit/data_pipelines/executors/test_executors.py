import os
import subprocess
import sys
import threading

import pytest

from data_pipelines.config import RunSection
from data_pipelines.executors.run import Stage, run_stage
from finetune.contracts.errors import DatasetError, MachineError
from finetune.guard.record import JOURNAL_VARIABLE, read_untold
from tests.unit.data_pipelines.staged import PLACE

ALONE, TWO = RunSection(workers=1), RunSection(workers=2)


@pytest.fixture
def stage_of(tmp_path):
    """stage_of(name of a function, number of tasks) gives a stage whose results lie in a folder of their own."""

    def make(name, num_tasks=4):
        folder, results = tmp_path / "stage", tmp_path / "results"
        for path in (folder, results):
            path.mkdir(exist_ok=True)
        return Stage(f"{PLACE}:{name}", folder, tuple(results / str(number) for number in range(num_tasks)))

    return make


def pids(stage):
    return {int(target.read_text()) for target in stage.targets if target.exists()}


def done(stage):
    return sorted(map(int, (stage.folder / "done").read_text().split()))


def run(stage, section, seconds=60):
    """Run a stage; a stage that hangs fails its test. Returns the ticks, or raises what the stage raises."""
    ticks, errors = [], []

    def work():
        try:
            run_stage(stage, section, tick=ticks.append)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return ticks


def test_one_worker_is_this_process(stage_of):
    stage = stage_of("write_pid")
    assert run(stage, ALONE) == [0, 1, 2, 3]
    assert pids(stage) == {os.getpid()}


def test_one_task_is_done_in_this_process_however_many_workers_there_may_be(stage_of):
    stage = stage_of("write_pid", 1)
    assert run(stage, TWO) == [0]
    assert pids(stage) == {os.getpid()}


def test_several_workers_are_processes_of_their_own(stage_of):
    stage = stage_of("write_pid")
    assert sorted(run(stage, TWO)) == [0, 1, 2, 3]
    assert os.getpid() not in pids(stage)
    assert done(stage) == [0, 1, 2, 3]


@pytest.mark.parametrize("section", [ALONE, TWO])
def test_results_that_are_there_are_not_made_again(section, stage_of):
    stage = stage_of("write_pid")
    for number in (0, 2):
        stage.targets[number].write_text("1")
    assert stage.missing() == [1, 3]
    assert sorted(run(stage, section)) == [1, 3]
    assert done(stage) == [1, 3]
    assert stage.targets[0].read_text() == "1"
    assert run(stage, section) == []


@pytest.mark.parametrize("section", [ALONE, TWO])
def test_a_tick_may_take_the_result_away(section, stage_of):
    stage = stage_of("write_pid")
    run_stage(stage, section, tick=lambda number: stage.targets[number].unlink())
    assert done(stage) == [0, 1, 2, 3]
    assert pids(stage) == set()


def test_a_killed_worker_is_an_error_and_no_hang_and_the_next_run_goes_on(stage_of):
    stage = stage_of("kill_second")
    with pytest.raises(MachineError, match="worker process was killed") as caught:
        run(stage, TWO)
    assert "run.workers" in caught.value.hint
    assert not stage.targets[1].exists()
    again = stage_of("write_pid")
    left = again.missing()
    assert 1 in left
    assert run(again, ALONE) == left
    assert again.missing() == []


@pytest.mark.parametrize("section", [ALONE, TWO])
def test_what_a_task_raises_comes_back_as_it_was(section, stage_of):
    stage = stage_of("fail_second")
    with pytest.raises(DatasetError, match="The second is bad") as caught:
        run(stage, section)
    assert caught.value.hint == "Leave it out."


def test_tasks_without_a_result_are_an_error_that_counts_them(stage_of):
    with pytest.raises(MachineError, match="4 of 4 tasks of stage gave no result"):
        run(stage_of("write_nothing"), TWO)


def test_a_program_that_came_by_a_pipe_does_the_work_itself(tmp_path):
    """Workers would have to import it, and cannot."""
    code = (
        "import os; from pathlib import Path; from data_pipelines.config import RunSection;"
        "from data_pipelines.executors.run import Stage, run_stage;"
        f"folder = Path({str(tmp_path)!r});"
        f"stage = Stage('{PLACE}:write_pid', folder, (folder / 'a', folder / 'b'));"
        "run_stage(stage, RunSection(workers=2), tick=print);"
        "assert {path.read_text() for path in stage.targets} == {str(os.getpid())}"
    )
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["0", "1"], "")


def test_workers_are_one_per_core_or_what_is_asked_for_and_never_more_than_tasks():
    assert RunSection().num_workers(1_000) == len(os.sched_getaffinity(0))
    assert RunSection(workers=3).num_workers(1_000) == 3
    assert RunSection(workers=3).num_workers(2) == 2
    assert RunSection().num_workers(0) == 1
    assert RunSection(executor="slurm").num_workers(5) == -1


def test_what_a_worker_tries_is_in_the_record_of_the_command(stage_of, tmp_path, monkeypatch):
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    stage = stage_of("call_out")
    assert sorted(run(stage, TWO)) == [0, 1, 2, 3], "the library has swallowed the refusal"
    found = read_untold()
    assert [attempt.address for attempt in found.attempts] == ["192.0.2.1"]
    assert {attempt.process for attempt in found.attempts} <= {process.pid for process in found.processes}
    assert {process.pid for process in found.processes} >= pids(stage)
    assert os.getpid() not in pids(stage)
    assert all(", ForkServer" in process.program for process in found.processes)
