"""A cluster of one machine, for tests: what sbatch, srun, squeue and scancel do as far as a build can tell.

SLURM_STAND_IN is a folder: <job>/pid of the process that runs the job's tasks, and what each was told.
SLURM_STAND_IN_KILLS names array tasks that die by SIGKILL, SLURM_STAND_IN_HELD a reason for which no job ever runs.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["SLURM_STAND_IN"])


def sbatch(words):
    options = [word for word in words if word.startswith("--")]
    script = Path(words[-1]).read_text()
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        number = 1 + sum(path.is_dir() for path in FOLDER.iterdir())
        job = FOLDER / str(number)
        job.mkdir()
    (job / "script").write_text(script)
    if re.search(r"^#SBATCH --(account|partition|qos|time)$", script, re.M):
        sys.exit("sbatch: error: an option without a value")
    if not os.environ.get("SLURM_STAND_IN_HELD"):
        exports = [word.split("=", 1)[1].split(",")[1:] for word in options if word.startswith("--export=ALL")]
        given = dict(pair.split("=", 1) for pairs in exports for pair in pairs)
        child = subprocess.Popen(
            [sys.executable, __file__, "controller", str(number)],
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (job / "pid").write_text(str(child.pid))
    sys.stdout.write(f"Submitted batch job {number}\n")


def controller(words):
    """Run the array of a job, as many at once as it allows, each in a session of its own."""
    job = FOLDER / words[0]
    script = (job / "script").read_text()
    first, last, limit = re.search(r"#SBATCH --array=(\d+)-(\d+)(?:%(\d+))?", script).groups()
    output = re.search(r'#SBATCH --output="?(.+?)"?$', script, re.M)[1]
    waiting, running = list(range(int(first), int(last) + 1)), []
    doomed = os.environ.get("SLURM_STAND_IN_KILLS", "").split()
    while waiting or running:
        while waiting and len(running) < int(limit or 2):
            number = waiting.pop(0)
            log = os.open(output.replace("%A", words[0]).replace("%a", str(number)), os.O_WRONLY | os.O_CREAT)
            environment = {
                **os.environ,
                "SLURM_JOB_ID": words[0],
                "SLURM_ARRAY_TASK_ID": str(number),
                "SLURM_NODELIST": "node-[1-2]",
            }
            command = ["sleep", "600"] if str(number) in doomed else ["bash", str(job / "script")]
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            os.close(log)
            if str(number) in doomed:
                child.kill()
            running.append(child)
        running = [child for child in running if child.poll() is None]
        time.sleep(0.05)


def srun(words):
    place = words.index("-n")
    os.execvp(words[place + 2], words[place + 2 :])


def squeue(words):
    if os.environ.get("SLURM_STAND_IN_HELD"):
        sys.stdout.write(f"PENDING {os.environ['SLURM_STAND_IN_HELD']}\n")
        return
    job = FOLDER / words[words.index("-j") + 1]
    state = Path(f"/proc/{(job / 'pid').read_text()}/stat")
    if not state.exists() or state.read_text().split()[2] == "Z":
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    sys.stdout.write("RUNNING None\n")


def scancel(words):
    (FOLDER / words[0] / "cancelled").touch()
    pid = FOLDER / words[0] / "pid"
    if pid.exists():
        os.killpg(int(pid.read_text()), signal.SIGKILL)


if __name__ == "__main__":
    name = Path(sys.argv[1]).name
    {"sbatch": sbatch, "controller": controller, "srun": srun, "squeue": squeue, "scancel": scancel}[name](sys.argv[2:])
