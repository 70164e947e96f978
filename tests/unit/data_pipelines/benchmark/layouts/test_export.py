import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from data_pipelines.benchmark.layouts.export import export_suite
from data_pipelines.benchmark.layouts.portable import portable_task
from data_pipelines.benchmark.layouts.swebench import SwebenchLayout, told_apart
from finetune.contracts.errors import DatasetError, InputError

from .conftest import commit_task

NAMES = {f"corp-shop__body-{'b' * 16}", f"corp-shop__commit-{'c' * 16}"}


def run(script: Path, *, cwd: Path, names: dict[str, Path | str]) -> str:
    """Run an exported script with the paths of its container replaced by ours."""
    text = script.read_text()
    for name, place in names.items():
        text = text.replace(name, str(place))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(cwd.parent)}
    done = subprocess.run(
        ["bash", "-c", text], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode()


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("solved", [False, True])
def test_harbors_scripts_reward_the_solution_and_nothing_else(suite, tmp_path, name, solved):
    export_suite(suite, tmp_path / "out", layout="harbor", image="")
    task, logs, work = tmp_path / "out" / name, tmp_path / "logs", tmp_path / "work"
    shutil.copytree(task / "environment" / "tree", work)
    # what a model wrote over the tests is put back
    (work / "tests" / "test_shop.py").write_text("def test_low():\n    pass\n\n\ndef test_high():\n    pass\n")
    if solved:
        run(task / "solution" / "solve.sh", cwd=work, names={"/solution": task / "solution", "/repo": work})
    log = run(task / "tests" / "test.sh", cwd=work, names={"/tests/": f"{task}/tests/", "/logs": logs, "/repo": work})
    assert (logs / "verifier" / "reward.txt").read_text() == ("1\n" if solved else "0\n"), log


def test_harbors_files_say_what_the_task_is(suite, tmp_path):
    export_suite(suite, tmp_path / "out", layout="harbor", image="shop-ci:12")
    folder = tmp_path / "out" / f"corp-shop__commit-{'c' * 16}"
    settings = tomllib.loads((folder / "task.toml").read_text())
    assert settings["schema_version"] == "1.4"
    assert settings["task"]["description"] == 'Clamp "low" values'
    assert settings["environment"]["network_mode"] == "no-network"
    assert (folder / "instruction.md").read_text().startswith('Clamp "low" values\n\nAs they should be.\n')
    assert "ARG BASE_IMAGE=shop-ci:12\n" in (folder / "environment" / "Dockerfile").read_text()
    assert not (folder / "environment" / "tree" / ".git").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("solved", [False, True])
def test_swebenchs_script_passes_with_the_gold_patch_and_fails_without(suite, tmp_path, name, solved):
    export_suite(suite, tmp_path / "out", layout="swebench", image="")
    task, work = tmp_path / "out" / "tasks" / name, tmp_path / "work"
    shutil.copytree(task / "tree", work)
    made = next(line[4:] for line in (task / "Dockerfile").read_text().splitlines() if line.startswith("RUN "))
    subprocess.run(["bash", "-c", made], cwd=work, check=True)
    if solved:
        subprocess.run(["git", "apply", str(task / "gold.patch")], cwd=work, check=True)
    # what a model wrote over the tests is put back
    (work / "tests" / "test_shop.py").write_text("def test_low():\n    pass\n")
    log = run(task / "eval.sh", cwd=work, names={"/testbed": work})
    part = log.partition(">>>>> Start Test Output")[2].partition(">>>>> End Test Output")[0]
    tests = json.loads((task / "tests.json").read_text())
    ended = {one: f"PASSED {one}" in part for one in [*tests["FAIL_TO_PASS"], *tests["PASS_TO_PASS"]]}
    assert ended["tests/test_shop.py::test_low"] is solved, log
    assert ended.get("tests/test_shop.py::test_high", True), log


def test_swebenchs_files_hold_what_its_checks_ask_for(suite, tmp_path):
    note = export_suite(suite, tmp_path / "out", layout="swebench", image="")
    assert note.num_tasks == 2 and note.image == "corp-shop-tests"
    config = yaml.safe_load((tmp_path / "out" / "sweb.yaml").read_text())
    instances = [json.loads(line) for line in (tmp_path / "out" / "instances.jsonl").read_text().splitlines()]
    assert {one["instance_id"] for one in instances} == NAMES
    for one in instances:
        folder = tmp_path / "out" / "tasks" / one["instance_id"]
        meta = yaml.safe_load((folder / "task.yaml").read_text())
        assert meta["datasets"] == config["datasets"] and meta["split"] in config["splits"]
        assert meta["image"] == f"swebench/sweb.eval.x86_64.{one['instance_id'].replace('__', '_1776_')}:latest"
        assert (folder / "gold.patch").read_text() == one["patch"] and "diff --git" in one["patch"]
        assert json.loads(one["FAIL_TO_PASS"]) == json.loads((folder / "tests.json").read_text())["FAIL_TO_PASS"]
    assert {one["base_commit"] for one in instances} == {"1" * 40, "3" * 40}


def test_names_that_swebenchs_parser_would_change_are_left_out_and_a_task_of_only_such_is_counted(tree, tmp_path):
    assert told_apart(["a::b[c d]", "a::b[c  d]", "a::b[c - d]", "a::b[\t]"]) == ["a::b[c d]"]
    layout = SwebenchLayout(tmp_path / "out", dataset="a/b", image="c")
    task = commit_task(fail_to_pass=("tests/test_shop.py::test[a  b]",))
    assert layout.add(portable_task(task, tree("parent", "", ""))) == (
        "SWE-bench's log parser cannot tell its tests apart"
    )


def test_an_export_replaces_an_export_and_nothing_else(suite, tmp_path):
    export_suite(suite, tmp_path / "out", layout="harbor", image="")
    export_suite(suite, tmp_path / "out", layout="swebench", image="")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tasks",
        "sweb.yaml",
        "instances.jsonl",
        "export.json",
    }
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="something else"):
        export_suite(suite, tmp_path / "own", layout="harbor", image="")
    assert (tmp_path / "own" / "letter.txt").read_text() == "dear"


def test_a_damaged_suite_is_not_exported(suite, tmp_path):
    (suite / "trees" / ("1" * 40) / "shop.py").write_text("other")
    with pytest.raises(DatasetError, match="was altered"):
        export_suite(suite, tmp_path / "out", layout="harbor", image="")
    assert not (tmp_path / "out").exists()
