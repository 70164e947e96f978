"""A build that is killed at any moment, and run again, gives the bytes of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.data_pipelines.building import bytes_of, config_of, data_folder

# small tasks, so that there is much to be interrupted
PROGRAM = """
import sys
from pathlib import Path

from data_pipelines.engine import reading
from data_pipelines.engine import writing
from data_pipelines.config import PipelineConfig
from data_pipelines.pipeline import build_dataset
from finetune.terminal.progress import Progress

if __name__ == "__main__":
    reading.TASK_BYTES, writing.PART_BYTES, writing.PACK_BYTES = 4_000, 4_000, 8_000
    config = PipelineConfig.model_validate_json(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[4]).touch()
    with Progress("Building", None) as progress:
        build_dataset(config, Path(sys.argv[2]), data_folder=Path(sys.argv[3]), progress=progress)
"""


class Builder:
    """Builds of one repository in processes of their own."""

    def __init__(self, folder, path, *, workers):
        self.out = folder / "out"
        self._folder = folder
        self._workers = workers
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "program.py").write_text(PROGRAM)
        (folder / "config.json").write_text(config_of([path], self.out, workers=workers).model_dump_json())

    def start(self):
        """Start a build; it is at work when this returns."""
        sign = self._folder / "started"
        sign.unlink(missing_ok=True)
        places = [self._folder / "config.json", self.out, data_folder(self.out), sign]
        child = subprocess.Popen(
            [sys.executable, str(self._folder / "program.py"), *map(str, places)],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        )
        while not sign.exists() and child.poll() is None:
            time.sleep(0.005)
        return child

    def run(self):
        """Build to the end; seconds that it took."""
        child, began = self.start(), time.monotonic()
        _, shown = child.communicate(timeout=120)
        assert child.returncode == 0, shown.decode()
        return time.monotonic() - began

    def kill(self, seconds):
        """Kill a build after so many seconds; whether it was still at work."""
        child = self.start()
        time.sleep(seconds)
        was_at_work = child.poll() is None
        child.kill()
        child.communicate(timeout=60)
        return was_at_work


@pytest.fixture
def undisturbed(shop, tmp_path):
    """The bytes of a build that nobody killed, by the number of workers, and the seconds that it takes."""

    def make(workers):
        builder = Builder(tmp_path / "whole", shop, workers=workers)
        seconds = builder.run()
        return bytes_of(builder.out), seconds

    return make


def kill_often(shop, tmp_path, *, expected, seconds, workers, times=1, seed=0):
    """Kill at moments spread over a build's time, the store of the earlier ones at hand, and let one run to its end."""
    draw = random.Random(seed)
    builder = Builder(tmp_path / "killed", shop, workers=workers)
    num_killed = sum(builder.kill(draw.uniform(0, seconds)) for _ in range(times))
    builder.run()
    assert bytes_of(builder.out) == expected
    assert list(builder.out.parent.glob(".out*")) == []
    return num_killed


def test_a_build_that_was_killed_thrice_gives_the_same_bytes(shop, tmp_path, undisturbed):
    expected, seconds = undisturbed(1)
    assert kill_often(shop, tmp_path, expected=expected, seconds=seconds, workers=1, times=3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_build_that_is_killed_at_any_moment_gives_the_same_bytes(workers, shop, tmp_path, undisturbed):
    expected, seconds = undisturbed(workers)
    num_killed = 0
    for number in range(20):
        folder = tmp_path / str(number)
        num_killed += kill_often(shop, folder, seed=number, expected=expected, seconds=seconds, workers=workers)
    # a build that was quicker than the one that was measured ends before the moment drawn
    assert num_killed >= 10


def test_a_killed_build_leaves_the_old_dataset_as_it_was(make_repository, shop, tmp_path):
    builder = make_repository()
    for path in sorted((shop / "shop").glob("*.py")):
        builder.commit({path.name: path.read_text()}, "Add one more module here")
    builds = Builder(tmp_path / "killed", builder.path, workers=1)
    seconds = builds.run()
    before = bytes_of(builds.out)
    builder.commit({"last.py": (shop / "shop" / "apple.py").read_text().replace("apple", "plum")}, "Add the plums")
    assert builds.kill(seconds / 3)
    assert bytes_of(builds.out) == before
    builds.run()
    assert bytes_of(builds.out) != before


def processes_of(folder):
    """Processes whose command line or environment names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{folder}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are told by /proc")
def test_workers_end_with_a_build_that_was_killed(shop, tmp_path, monkeypatch):
    """They would keep their memory, and go on writing beside the next build."""
    monkeypatch.setenv("MARK_OF_TEST", str(tmp_path))
    builds = Builder(tmp_path / "killed", shop, workers=2)
    child = builds.start()
    deadline = time.monotonic() + 60
    # the child, the server that forks, the tracker of resources and a worker
    while len(processes_of(tmp_path)) < 4 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    assert len(processes_of(tmp_path)) >= 4
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while (left := processes_of(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
