"""The layout of Harbor's tasks (schema 1.4): a folder each with task.toml, instruction, environment, solution, tests.

The environment's Dockerfile copies the tree that lies beside it into /repo, in an image in which the repository's tests
run. Nothing is fetched.
"""

import json
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from data_pipelines.benchmark.copies import Copies
from data_pipelines.benchmark.layouts.portable import PortableTask, slug, write_files

WORK = "/repo"
REWARD = "/logs/verifier/reward.txt"
PROGRAM = "finetune_reward.py"
AGENT_SECONDS = 1800.0
# two runs of pytest in one, and an interpreter that starts cold
VERIFIER_FACTOR = 4


class HarborLayout:
    """Writes folders of tasks."""

    name = "harbor"

    def __init__(self, root: Path, *, dataset: str, image: str) -> None:
        self._root, self._dataset, self._image = root, dataset, image
        self._copies = Copies()

    def add(self, portable: PortableTask) -> str:
        """Write a task; why it was left out, "" when it was not."""
        folder = self._root / portable.name
        for name in ("environment", "solution", "tests"):
            (folder / name).mkdir(parents=True)
        (folder / "task.toml").write_text(_toml(portable, dataset=self._dataset), encoding="utf-8")
        (folder / "instruction.md").write_text(_instruction(portable), encoding="utf-8")
        (folder / "environment" / "Dockerfile").write_text(_dockerfile(self._image), encoding="utf-8")
        portable.copy_tree(folder / "environment" / "tree", self._copies)
        write_files(folder / "solution" / "files", portable.gold)
        _write_script(folder / "solution" / "solve.sh", _solve(portable))
        self._write_tests(folder / "tests", portable)
        return ""

    def finish(self) -> None:
        """Nothing is about all tasks."""

    def _write_tests(self, folder: Path, portable: PortableTask) -> None:
        portable.copy_tests(folder / "files", self._copies)
        task = portable.task
        names = {"fail_to_pass": task.fail_to_pass, "pass_to_pass": task.pass_to_pass}
        (folder / "tests.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")
        (folder / PROGRAM).write_bytes(files("data_pipelines.benchmark.inside").joinpath(PROGRAM).read_bytes())
        _write_script(folder / "test.sh", _test(portable))


def _toml(portable: PortableTask, *, dataset: str) -> str:
    task = portable.task
    metadata = {
        "id": task.id,
        "kind": task.kind,
        "language": task.language,
        "repository": task.repo,
        "commit": task.commit,
        "path": task.path,
    }
    sections: Mapping[str, Mapping[str, str | float]] = {
        "task": {"name": f"{slug(dataset)}/{portable.name}", "description": task.statement.split("\n")[0]},
        "metadata": metadata,
        "verifier": {"timeout_sec": VERIFIER_FACTOR * task.timeout_seconds},
        "agent": {"timeout_sec": AGENT_SECONDS},
        "environment": {"build_timeout_sec": 600.0, "network_mode": "no-network"},
    }
    # a JSON string is a TOML basic string
    parts = [
        "".join([f"[{name}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in section.items())])
        for name, section in sections.items()
    ]
    return "\n".join(['schema_version = "1.4"\n', *parts])


def _instruction(portable: PortableTask) -> str:
    return f"""{portable.task.statement}

The repository is in {WORK}. Change its source there; its own tests, which you need not change, decide.
"""


def _dockerfile(image: str) -> str:
    return f"""# {image} must be an image of yours with bash and a `python` in which this repository's tests run
ARG BASE_IMAGE={image}
FROM ${{BASE_IMAGE}}
COPY tree {WORK}
WORKDIR {WORK}
"""


def _solve(portable: PortableTask) -> str:
    lines = ["#!/bin/bash", "set -e", f"cp -R /solution/files/. {WORK}/"]
    return "\n".join([*lines, *_removals(portable.gold)]) + "\n"


def _test(portable: PortableTask) -> str:
    lines = [
        "#!/bin/bash",
        f"cd {WORK}",
        f"cp -R /tests/files/. {WORK}/",
        *_removals(portable.tests),
        f"export PYTHONPATH={WORK}/src:{WORK} PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 TZ=UTC LC_ALL=C.UTF-8",
        f"mkdir -p {REWARD.rpartition('/')[0]}",
        f"echo 0 > {REWARD}",
        f"python /tests/{PROGRAM} /tests/tests.json {REWARD}",
    ]
    return "\n".join(lines) + "\n"


def _removals(texts: Mapping[str, str | None]) -> list[str]:
    gone = sorted(f"{WORK}/{path}" for path, text in texts.items() if text is None)
    return [f"rm -f -- {shlex.join(gone)}"] if gone else []


def _write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
