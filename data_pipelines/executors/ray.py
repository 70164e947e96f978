"""datatrove's Ray executor: on a cluster that the settings name, or on Ray processes of this machine's loopback."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from datatrove.executor import RayPipelineExecutor
from datatrove.executor.base import PipelineExecutor

from data_pipelines.config import RunSection
from data_pipelines.executors.stage import guard_far_worker, silence
from finetune.contracts.errors import MachineError

LOOPBACK = "127.0.0.1"
ASK_SECONDS = 0.5
# what a worker may take (docs/benchmarks.md), reserved for each task
MEMORY_BYTES = 1 << 30
MAX_RETRIES = 2


class RayExecutor(RayPipelineExecutor):  # type: ignore[misc]
    """Runs every rank as a task of Ray.

    datatrove's own run starts an actor and in it a pool for every rank, and waits for ever when the kernel kills a
    process of such a pool.
    """

    _given_up = False

    def run_all(self) -> None:
        """Run all ranks; the first error ends the run. Raises MachineError when a worker is killed again and again."""
        import ray

        here = ray.put(self)
        task = ray.remote(num_cpus=1, memory=MEMORY_BYTES, max_retries=MAX_RETRIES)(_run)
        waiting: list[int] = list(reversed(range(self.tasks)))
        running: list[Any] = []
        try:
            while (waiting or running) and not self._given_up:
                while waiting and len(running) < self.workers:
                    running.append(task.remote(here, waiting.pop()))
                done, running = ray.wait(running, timeout=ASK_SECONDS)
                ray.get(done)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as cause:
            raise MachineError(
                f"A worker of Ray was killed {1 + MAX_RETRIES} times; most often its machine had too little memory.",
                "Set run.workers to a smaller number in a pipeline file, then run the same command again.",
            ) from cause

    def stop(self) -> None:
        """Leave the cluster: tasks end with their driver, and so do the Ray processes that it started here."""
        import ray

        self._given_up = True
        ray.shutdown()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        guard_far_worker(Path(self.logging_dir.path))
        # Ray's own way leaves logs in a folder for temporary files that all users of a machine share
        return PipelineExecutor._run_for_rank(self, rank, local_rank, node_rank)


def open_ray(section: RunSection, options: dict[str, Any]) -> RayExecutor:
    """An executor whose Ray is there. Raises MachineError when it is not installed or cannot be reached."""
    _prepare(alone=not section.ray_address)
    try:
        import ray
    except ImportError as cause:
        raise MachineError(
            "run.executor is ray, but Ray is not installed: it comes with the extra scale.",
            'Install it: pip install "finetune[scale]"',
        ) from cause
    silence()
    if not ray.is_initialized():
        _start(section)
    return RayExecutor(**options)


def _start(section: RunSection) -> None:
    import ray

    where: dict[str, Any] = {"address": section.ray_address}
    if not section.ray_address:
        _keep_to_loopback()
        cores = section.workers or len(os.sched_getaffinity(0))
        where = {"address": "local", "num_cpus": cores, "include_dashboard": False, "_node_ip_address": LOOPBACK}
    try:
        ray.init(**where, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, OSError) as cause:
        raise MachineError(
            f"Ray cannot be reached at {section.ray_address or LOOPBACK}: {str(cause).splitlines()[0]}",
            "Look at run.ray_address in the pipeline file; empty starts Ray on this machine.",
        ) from cause


def _prepare(*, alone: bool) -> None:
    """Set what Ray reads when it is imported. alone: its servers obey this process and its workers only."""
    if "ray" in sys.modules:
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if alone:
        # loopback is shared with the machine's other users
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _keep_to_loopback() -> None:
    """Make Ray's servers listen on loopback: whoever reaches them can run programs as this user.

    Ray takes the address of a network card even where it is told 127.0.0.1, but for systems on which it makes no
    clusters.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _run(executor: RayExecutor, rank: int) -> None:
    executor._run_for_rank(rank, rank)
