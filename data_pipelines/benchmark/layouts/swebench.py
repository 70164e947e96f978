"""The layout of SWE-bench's task repositories (swebench 5): sweb.yaml, and for each task a folder below tasks/.

The harness mounts nothing: a task's Dockerfile copies the tree that lies beside it into /testbed, in an image in which
the repository's tests run. Nothing is fetched.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data_pipelines.benchmark.copies import Copies
from data_pipelines.benchmark.layouts.portable import PortableTask

# swebench/harness/constants
WORK, START, END = "/testbed", ">>>>> Start Test Output", ">>>>> End Test Output"
# swebench/harness/log_parsers: the one that keeps spaces in names
PARSER = "parse_log_pytest_v2"
SPLIT = "test"
HEREDOC = "END_OF_TEST_PATCH"
ENVIRONMENT = (
    f"PYTHONPATH={WORK}/src:{WORK} PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 TZ=UTC LC_ALL=C.UTF-8 COLUMNS=500"
)


def told_apart(names: Sequence[str]) -> list[str]:
    """The names of tests that the log parser gives back as they are."""
    return [name for name in names if name.isprintable() and " ".join(name.split()) == name and " - " not in name]


class SwebenchLayout:
    """Writes a task repository."""

    name = "swebench"

    def __init__(self, root: Path, *, dataset: str, image: str) -> None:
        self._root, self._dataset, self._image = root, dataset, image
        self._copies = Copies()
        self._instances: list[Mapping[str, object]] = []

    def add(self, portable: PortableTask) -> str:
        """Write a task; why it was left out, "" when it was not."""
        failing, passing = told_apart(portable.task.fail_to_pass), told_apart(portable.task.pass_to_pass)
        if not failing:
            return "SWE-bench's log parser cannot tell its tests apart"
        folder = self._root / "tasks" / portable.name
        folder.mkdir(parents=True)
        meta = _meta(portable, dataset=self._dataset)
        texts = {
            "problem_statement.md": portable.task.statement + "\n",
            "gold.patch": portable.gold_patch(),
            "test.patch": portable.test_patch(),
            "eval.sh": eval_script(portable),
            "tests.json": json.dumps({"FAIL_TO_PASS": failing, "PASS_TO_PASS": passing}, indent=2) + "\n",
            "task.yaml": yaml.safe_dump(meta),
            "Dockerfile": _dockerfile(self._image),
        }
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode("utf-8"))
        portable.copy_tree(folder / "tree", self._copies)
        self._instances.append(
            {
                **meta,
                "patch": texts["gold.patch"],
                "test_patch": texts["test.patch"],
                "problem_statement": texts["problem_statement.md"],
                "hints_text": "",
                "created_at": "",
                "environment_setup_commit": portable.base_commit,
                "eval_script": texts["eval.sh"],
                "FAIL_TO_PASS": json.dumps(failing),
                "PASS_TO_PASS": json.dumps(passing),
            }
        )
        return ""

    def finish(self) -> None:
        """Write what is about all tasks."""
        (self._root / "sweb.yaml").write_text(yaml.safe_dump({"datasets": [self._dataset], "splits": [SPLIT]}))
        lines = "".join(json.dumps(instance) + "\n" for instance in self._instances)
        (self._root / "instances.jsonl").write_text(lines, encoding="utf-8")


def _meta(portable: PortableTask, *, dataset: str) -> dict[str, object]:
    # the name of the image is derived from the id by swebench/task/checks.py
    image = f"swebench/sweb.eval.x86_64.{portable.name}:latest".replace("__", "_1776_")
    return {
        "instance_id": portable.name,
        "repo": portable.task.repo,
        "version": portable.base_commit[:12],
        "base_commit": portable.base_commit,
        "split": SPLIT,
        "datasets": [dataset],
        "image": image,
        "log_parser": PARSER,
        "eval_type": "pass_and_fail",
    }


def _dockerfile(image: str) -> str:
    return f"""# {image} must be an image of yours with git, bash, and a `python` in which this repository's tests run
ARG BASE_IMAGE={image}
FROM ${{BASE_IMAGE}}
COPY tree {WORK}
WORKDIR {WORK}
RUN git init -q && git add -A -f && git -c user.name=base -c user.email=base@localhost commit -q -m base
"""


def eval_script(portable: PortableTask) -> str:
    """Put the tests back as they should be, then run those files that grade."""
    patch = portable.test_patch()
    kept = [path for path in portable.test_files if (portable.tree / path).is_file()]
    touched = sorted({*kept, *(path for path in portable.tests if (portable.tree / path).is_file())})
    new = sorted(path for path in portable.tests if path not in touched)
    lines = ["#!/bin/bash", "set -uxo pipefail", f"cd {WORK}", f"git config --global --add safe.directory {WORK}"]
    if touched:
        lines.append(f"git checkout HEAD -- {shlex.join(touched)}")
    if new:
        lines.append(f"rm -f -- {shlex.join(new)}")
    if patch:
        lines += [f"git apply -v - <<'{HEREDOC}'", patch + HEREDOC]
    arguments = "-rA --tb=short --show-capture=no -p no:cacheprovider -p no:randomly --continue-on-collection-errors"
    lines += [
        f": '{START}'",
        f"{ENVIRONMENT} python -m pytest {arguments} --rootdir={WORK} {shlex.join(portable.test_files)}",
        f": '{END}'",
    ]
    return "\n".join(lines) + "\n"
