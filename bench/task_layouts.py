"""Check exported tasks with the code of those harnesses, and run their scripts where a container would run them.

python bench/task_layouts.py --harness PYTHON --environment VENV FOLDER [FOLDER ...]

PYTHON is an interpreter in which the layout's package is installed (harbor 0.26, swebench 5.0.2). Their code loads
and checks each folder. Then the scripts of each task, or with --run N of the first N, run in namespaces of their own at
the paths that they name, without network: once with the author's solution, which must be rewarded, and once with
nothing, which must not. SWE-bench's logs are read and judged by swebench. No image is built. Exit status 1 when
something is not as it must be.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HARBOR_CHECK = """
import json, sys, warnings
from pathlib import Path
from harbor.lint import lint_task
from harbor.models.task.task import Task
for place in map(Path, sys.argv[1:]):
    task = Task(place)
    errors = [one.rule.value for one in lint_task(place)]
    print(json.dumps({"valid": Task.is_valid_dir(place), "name": task.name, "found": errors}))
"""
SWEBENCH_CHECK = """
import json, sys
from swebench.harness.utils import load_swebench_dataset, make_test_spec
from swebench.task.checks import check_task_repo
from swebench.task.repo import load_dockerfiles, load_task_repo, published_tasks
root = sys.argv[1]
tasks = load_task_repo(root)
flat = {one["instance_id"]: one for one in load_swebench_dataset(root + "/instances.jsonl")}
num = sum(len(found) for splits in published_tasks(root).values() for found in splits.values())
same = all(make_test_spec(one) == make_test_spec(flat[one["instance_id"]]) for one in tasks)
print(json.dumps({
    "problems": [str(one) for one in check_task_repo(root)],
    "tasks": len(tasks), "published": num, "flat": len(flat), "same": same, "dockerfiles": len(load_dockerfiles(root)),
    "scripts": {one["instance_id"]: make_test_spec(one).eval_script for one in tasks},
}))
"""
SWEBENCH_JUDGE = """
import json, sys
from swebench.harness.grading import get_eval_report
from swebench.harness.utils import make_test_spec
from swebench.task.repo import load_task_repo
(task,) = load_task_repo(sys.argv[1], [sys.argv[2]])
prediction = {"instance_id": sys.argv[2], "model_name_or_path": "script", "model_patch": "x"}
print(json.dumps(get_eval_report(make_test_spec(task), prediction, sys.argv[3], True)[sys.argv[2]]))
"""
SYSTEM = ["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]
SYSTEM += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]


def in_namespaces(binds: dict[str, Path], environment: Path, command: Sequence[str], *, workdir: str) -> str:
    """What command prints, both streams, with folders of ours at the paths that it names; no network."""
    shown = [word for name, path in binds.items() for word in ("--bind", str(path), name)]
    home = Path((environment / "bin" / "python").resolve()).parent.parent
    command = [
        *["bwrap", *SYSTEM, "--ro-bind", str(environment), str(environment)],
        *(["--ro-bind", str(home), str(home)] if not home.is_relative_to("/usr") else []),
        *[*shown, "--unshare-all", "--uid", "1000", "--gid", "1000", "--die-with-parent", "--clearenv"],
        *["--setenv", "PATH", f"{environment}/bin:/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--chdir", workdir],
        *command,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=900)
    return done.stdout.decode(errors="replace")


def harbor_reward(task: Path, environment: Path, *, solved: bool) -> float:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        shutil.copytree(task / "environment" / "tree", scratch / "repo")
        shutil.copytree(task / "tests", scratch / "tests")
        shutil.copytree(task / "solution", scratch / "solution")
        (scratch / "logs" / "verifier").mkdir(parents=True)
        opened(scratch)
        binds = {f"/{one}": scratch / one for one in ("repo", "tests", "solution", "logs")}
        if solved:
            in_namespaces(binds, environment, ["bash", "/solution/solve.sh"], workdir="/repo")
        log = in_namespaces(binds, environment, ["bash", "/tests/test.sh"], workdir="/repo")
        reward = float((scratch / "logs" / "verifier" / "reward.txt").read_text())
        if reward != solved:
            print(f"{task.name}, solved {solved}: {log[-1500:]}", file=sys.stderr)
        return reward


def swebench_resolved(root: Path, name: str, script: str, environment: Path, *, harness: str, solved: bool) -> bool:
    task = root / "tasks" / name
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        shutil.copytree(task / "tree", scratch / "testbed")
        (scratch / "in").mkdir()
        (scratch / "in" / "eval.sh").write_text(script)
        shutil.copy(task / "gold.patch", scratch / "in" / "gold.patch")
        opened(scratch)
        binds = {"/testbed": scratch / "testbed", "/in": scratch / "in"}
        made = next(line[4:] for line in (task / "Dockerfile").read_text().splitlines() if line.startswith("RUN "))
        commands = [made, *(["git apply --verbose /in/gold.patch"] if solved else []), "bash /in/eval.sh"]
        log = in_namespaces(binds, environment, ["bash", "-c", " && ".join(commands)], workdir="/testbed")
        (scratch / "log.txt").write_text(log)
        report = json.loads(told(harness, SWEBENCH_JUDGE, str(root), name, str(scratch / "log.txt")))
        if report["resolved"] != solved:
            print(f"{name}, solved {solved}: {log[-1500:]}", file=sys.stderr)
        return bool(report["resolved"])


def opened(folder: Path) -> None:
    """For the user that the scripts run as."""
    for place, folders, names in os.walk(folder):
        for one in [place, *(os.path.join(place, name) for name in (*folders, *names))]:
            os.chmod(one, 0o777)


def told(harness: str, program: str, *arguments: str) -> str:
    done = subprocess.run([harness, "-W", "ignore", "-c", program, *arguments], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-3000:])
    return done.stdout.decode()


def check_harbor(root: Path, harness: str, environment: Path, *, run: int) -> tuple[str, bool]:
    tasks = sorted(path.parent for path in root.glob("*/task.toml"))
    told_lines = [json.loads(line) for line in told(harness, HARBOR_CHECK, *map(str, tasks)).splitlines()]
    valid = sum(one["valid"] for one in told_lines)
    for rule, count in Counter(rule for each in told_lines for rule in each["found"]).items():
        print(f"harbor's lint: {rule}: {count}", file=sys.stderr)
    with ThreadPoolExecutor(2) as pool:
        ran = tasks[:run]
        gold = sum(pool.map(lambda task: harbor_reward(task, environment, solved=True), ran))
        nothing = sum(pool.map(lambda task: harbor_reward(task, environment, solved=False), ran))
    holds = (valid, gold, nothing) == (len(tasks), len(ran), 0) and bool(tasks)
    return f"| {root.name} | harbor | {len(tasks)} | {valid} | {len(ran)} | {gold:g} | {nothing:g} |", holds


def check_swebench(root: Path, harness: str, environment: Path, *, run: int) -> tuple[str, bool]:
    seen = json.loads(told(harness, SWEBENCH_CHECK, str(root)))
    num = seen["tasks"]
    for problem in seen["problems"][:5]:
        print(f"swebench's check: {problem}", file=sys.stderr)
    whole = not seen["problems"] and seen["same"] and num == seen["published"] == seen["flat"] == seen["dockerfiles"]
    work = list(seen["scripts"].items())[:run]

    def resolved(one: tuple[str, str], solved: bool) -> bool:
        return swebench_resolved(root, *one, environment, harness=harness, solved=solved)

    with ThreadPoolExecutor(2) as pool:
        gold = sum(pool.map(lambda one: resolved(one, True), work))
        nothing = sum(pool.map(lambda one: resolved(one, False), work))
    holds = bool(whole and num and (gold, nothing) == (len(work), 0))
    return f"| {root.name} | swebench | {num} | {num if whole else 0} | {len(work)} | {gold} | {nothing} |", holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", required=True)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--run", type=int, default=1_000_000, metavar="N")
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    print("| folder | layout | tasks | whole to its own code | run | gold rewarded | nothing rewarded |")
    print("|---|---|--:|--:|--:|--:|--:|")
    all_hold = True
    for root in options.folders:
        check = check_swebench if (root / "sweb.yaml").is_file() else check_harbor
        line, holds = check(root.resolve(), options.harness, options.environment.absolute(), run=options.run)
        print(line, flush=True)
        all_hold = all_hold and holds
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
