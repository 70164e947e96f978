"""JavaScript: node's own test runner, `node --test`."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.host import SYSTEM_PATH
from finetune.execution.jail import TREE, Jail, Limits
from finetune.execution.runners.base import FOLDER, TestRun, inside_file, new_word, only_asked, test_run, with_version

OLDEST = 20


class JavaScriptRunner:
    """Tests are `path/to/file.test.js::group > test`, or files; files run whole and are reported in part.

    Node cannot stop at the first failure, so that all are run even when told to.
    """

    name = "javascript"

    def toolchain(self, program: Path | None) -> Toolchain:
        """program: node, version 20 or newer; None: the system's."""
        found = shutil.which("node", path=SYSTEM_PATH) if program is None else str(program.absolute())
        if found is None or not Path(found).is_file():
            raise InputError(f"{found or 'node'} is not there.", "Install node 20 or newer, or name it.")
        home = Path(found).resolve().parent.parent
        readable = () if home.is_relative_to("/usr") or home == Path("/") else (str(home),)
        toolchain = Toolchain(runner="javascript", program=found, readable=readable)
        toolchain, result = with_version(Jail.open(), toolchain, found, "--version")
        major = toolchain.version.removeprefix("v").split(".")[0]
        if result.exit_code != 0 or not major.isdigit() or int(major) < OLDEST:
            raise MachineError(
                f"{found} does not run in the jail as node {OLDEST} or newer: {result.note or toolchain.version}.",
                f"Install node {OLDEST} or newer.",
            )
        return toolchain

    def run(
        self,
        jail: Jail,
        toolchain: Toolchain,
        *,
        tree: Path,
        overlay: Mapping[str, bytes | None],
        tests: Sequence[str],
        limits: Limits,
        stop_at_first_failure: bool = False,
    ) -> TestRun:
        """Run the files that hold tests; a file that is not in the tree is an error of its tests."""
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        there = [name for name in files if _exists(tree, overlay, name)]
        if files and not there:
            return TestRun(dict.fromkeys(tests, "error"), "", 0.0, "None of the test files is in the tree.")
        word = new_word()
        ours = {
            f"{FOLDER}/reporter.mjs": inside_file("node_reporter.mjs"),
            f"{FOLDER}/request.json": json.dumps({"word": word}).encode(),
        }
        reporter = f"--test-reporter={TREE}/{FOLDER}/reporter.mjs"
        result = jail.run(
            [
                toolchain.program,
                "--test",
                "--test-concurrency=1",
                reporter,
                "--test-reporter-destination=stdout",
                *there,
            ],
            tree=tree,
            overlay={**overlay, **ours},
            readable=[Path(path) for path in toolchain.readable],
            environment=dict(toolchain.environment),
            limits=limits,
        )
        return only_asked(test_run(result, word, tests=tests, stops=False), tests)


def _exists(tree: Path, overlay: Mapping[str, bytes | None], name: str) -> bool:
    return overlay[name] is not None if name in overlay else (tree / name).is_file()
