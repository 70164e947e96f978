"""datatrove's Slurm executor, kept inside the stage's folder: no mail, no second job, and it waits for its jobs."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from datatrove.executor import SlurmPipelineExecutor
from datatrove.executor.base import DistributedEnvVars

from data_pipelines.config import RunSection
from data_pipelines.executors.stage import guard_far_worker, silence
from finetune.contracts.errors import MachineError

ASK_SECONDS = 5.0
STEP_SECONDS = 0.1
# a controller that restarts is silent for minutes
SILENT_ASKS = 60
# starting Python costs as much as a task: a job does several, where enough jobs are left to keep all workers busy
MAX_TASKS_PER_JOB, JOBS_PER_WORKER, WORKERS_WITHOUT_LIMIT = 8, 4, 64
# a job that waits for one of these waits for a person; see "JOB REASON CODES" in the manual of squeue
NEVER = (
    "launch failed requeued held",
    "JobHeldAdmin",
    "JobHeldUser",
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "DependencyNeverSatisfied",
)


class SlurmExecutor(SlurmPipelineExecutor):  # type: ignore[misc]
    """Runs every rank in job arrays. In a job, run is what datatrove calls; here, run_all submits and waits."""

    _jobs: list[str]
    _given_up = False

    @classmethod
    def of(cls, section: RunSection, options: dict[str, Any], *, job_name: str) -> Self:
        """An executor as the settings say; options are those of every executor."""
        silence()
        number, workers = options["tasks"], options["workers"]
        jobs = JOBS_PER_WORKER * (workers if workers > 0 else WORKERS_WITHOUT_LIMIT)
        made = cls(
            **options,
            time=section.slurm_time,
            partition=section.slurm_partition,
            job_name=job_name,
            env_command=section.slurm_setup or "true",
            qos="",
            requeue_signals=(),
            sbatch_args=dict(section.slurm_options),
            tasks_per_job=max(1, min(MAX_TASKS_PER_JOB, number // jobs)),
        )
        made._jobs = []
        made.job_id_retriever = made._submitted
        made._python = "python" if section.slurm_setup else sys.executable
        return made

    def run_all(self) -> None:
        """Submit the jobs, and wait until none is left. Raises MachineError when Slurm refuses or cannot run them."""
        for program in ("sbatch", "squeue"):
            if shutil.which(program) is None:
                raise MachineError(
                    f"run.executor is slurm, but {program} is not in PATH.",
                    "Run this on a node that submits jobs, or set run.executor to local in the pipeline file.",
                )
        try:
            self.launch_job()
        except subprocess.CalledProcessError as cause:
            raise MachineError(
                f"sbatch refused the job (exit status {cause.returncode}); what it said stands above.",
                "Look at run.slurm_* in the pipeline file: partition, time, options.",
            ) from cause
        silent = 0
        while not self._given_up and silent < SILENT_ASKS:
            self._sleep(ASK_SECONDS)
            state = self._state()
            if state == []:
                return
            silent = silent + 1 if state is None else 0
        if silent:
            raise MachineError(
                f"squeue has not answered {SILENT_ASKS} times.",
                "See that Slurm runs, then give the same command again.",
            )

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        guard_far_worker(Path(self.logging_dir.path))
        return super()._run_for_rank(rank, local_rank, node_rank)

    def stop(self) -> None:
        """Cancel the jobs."""
        if not self._given_up:
            self._given_up = True
            for job in self._jobs:
                _ask(["scancel", job])

    def launch_merge_stats(self) -> None:
        """Nobody reads datatrove's statistics: no job for them."""

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        """No task asks where others run, so scontrol is not asked either."""
        return DistributedEnvVars(
            datatrove_node_ips="",
            datatrove_cpus_per_task=str(self.cpus_per_task),
            datatrove_mem_per_cpu=str(self.mem_per_cpu_gb),
            datatrove_gpus_on_node="0",
            datatrove_executor="SLURM",
        )

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """As datatrove's, without an empty partition; a value with a space is quoted."""
        found = super().get_sbatch_args(max_array)
        if not self.partition:
            del found["partition"]
        return {name: f'"{value}"' if " " in str(value) else value for name, value in found.items()}

    def get_launch_file_contents(self, sbatch_args: dict[str, Any], run_script: str) -> str:
        """As datatrove's, with a command that needs nothing but a Python, and holds where the path has a space."""
        pickled = shlex.quote(self.logging_dir.resolve_paths("executor.pik"))
        command = f"srun -l -n 1 {shlex.quote(self._python)} -m datatrove.tools.launch_pickled_pipeline {pickled}"
        return str(super().get_launch_file_contents(sbatch_args, command))

    def _submitted(self, printed: str) -> str:
        """The job's number in what sbatch printed."""
        self._jobs.append(printed.rsplit(maxsplit=1)[-1])
        return self._jobs[-1]

    def _state(self) -> list[str] | None:
        """Lines of the queue on the last job, which starts when those before it ended; None when nobody answers."""
        status, printed, said = _ask(["squeue", "-h", "-j", self._jobs[-1], "-o", "%T %r"])
        if status != 0:
            # what ended some minutes ago is not known any more
            return [] if "Invalid job id" in said else None
        lines = printed.splitlines()
        dead = [line for line in lines if any(reason in line for reason in NEVER)]
        if dead and len(dead) == len(lines):
            self.stop()
            raise MachineError(
                f"Job {self._jobs[-1]} will never run: {dead[0].strip()}.",
                "Look at run.slurm_* in the pipeline file: partition, time, options.",
            )
        return lines

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._given_up and time.monotonic() < end:
            time.sleep(min(STEP_SECONDS, seconds))


def _ask(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of one of Slurm's programs."""
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
