"""Python: pytest under the interpreter of the repository's own virtual environment."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import TREE, Jail, Limits
from finetune.execution.runners.base import FOLDER, TestRun, inside_file, new_word, test_run, with_version

VERSIONS = 'import sys, pytest; print("Python %d.%d.%d, pytest " % sys.version_info[:3] + pytest.__version__)'


class PytestRunner:
    """Tests are pytest's node ids, or files, classes and parametrised functions that hold them."""

    name = "pytest"

    def toolchain(self, program: Path | None) -> Toolchain:
        """program: the interpreter of a virtual environment that has pytest and what the tests import."""
        program = Path(sys.executable) if program is None else Path(os.path.abspath(program))
        if not program.is_file():
            raise InputError(f"{program} is not a Python interpreter.", "Name one as /path/to/venv/bin/python.")
        toolchain = Toolchain(
            runner="pytest", program=str(program), readable=tuple(str(path) for path in _prefixes(program))
        )
        toolchain, result = with_version(Jail.open(), toolchain, str(program), "-I", "-c", VERSIONS)
        if result.exit_code != 0:
            raise MachineError(
                f"{program} does not run pytest in the jail: {(result.note or result.stderr).strip()[-300:]}.",
                f"Install pytest and what the tests need there: {program} -m pip install pytest",
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
        """Run tests; the tree and its src folder, if it has one, are first on the path, then a PYTHONPATH given."""
        environment = dict(toolchain.environment)
        given = [path for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path]
        paths = [f"{TREE}/src"] * (tree / "src").is_dir() + [str(TREE)] + given
        word = new_word()
        request = {"word": word, "tests": list(tests), "stop": stop_at_first_failure, "paths": paths}
        ours = {
            f"{FOLDER}/pytest_run.py": inside_file("pytest_run.py"),
            f"{FOLDER}/request.json": json.dumps(request).encode(),
        }
        result = jail.run(
            [toolchain.program, f"{TREE}/{FOLDER}/pytest_run.py", f"{TREE}/{FOLDER}/request.json"],
            tree=tree,
            overlay={**overlay, **ours},
            readable=[Path(path) for path in toolchain.readable],
            environment=environment,
            limits=limits,
        )
        return test_run(result, word, tests=tests, stops=stop_at_first_failure)


def _prefixes(program: Path) -> list[Path]:
    """The virtual environment and the installation it was made from, found without running it; /usr is seen anyway."""
    found = [program.resolve().parent.parent]
    settings = program.parent.parent / "pyvenv.cfg"
    if settings.is_file():
        found.append(program.parent.parent)
        for line in settings.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                found.append(Path(value.strip()).parent)
    return sorted({path for path in found if path != Path("/") and not path.is_relative_to("/usr")})
