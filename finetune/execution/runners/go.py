"""Go: `go test -json` under the toolchain of the machine, without its network."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.contracts.io import digest_text, new_folder
from finetune.execution.host import SYSTEM_PATH
from finetune.execution.jail import ENVIRONMENT as JAIL_ENVIRONMENT
from finetune.execution.jail import Jail, Limits
from finetune.execution.runners.base import (
    WORST_FIRST,
    TestOutcome,
    TestRun,
    only_asked,
    roomier,
    told_run,
    with_version,
)
from finetune.terminal.progress import Progress

STARTED = "go version "
# says its version before any code of the tree is read, then becomes the test tool; $1 is "" or a cache to begin with
SCRIPT = '"$0" version && { [ -z "$1" ] || cp -rs "$1" "$GOCACHE"; } && shift && exec "$0" "$@"'
ENVIRONMENT = {
    "GOCACHE": "/tmp/go-build",  # noqa: S108 - the jail's own
    "GOPATH": "/tmp/go",  # noqa: S108 - the jail's own
    "GOENV": "off",
    "GOFLAGS": "",
    "GOPROXY": "off",
    "GOSUMDB": "off",
    "GONOSUMDB": "*",
    "GOTOOLCHAIN": "local",
    "GOTELEMETRY": "off",
}
# what go says of a package that has no test process; a test's own words are never at the start of a line of its output
NOT_BUILT = re.compile(r"FAIL\t(\S+) \[(?:build|setup) failed\]")
ENDS: Mapping[str, TestOutcome] = {"pass": "passed", "fail": "failed", "skip": "skipped"}


class GoRunner:
    """Tests are `import/path::TestName` and `import/path::TestName/case`; a package's path alone means all of it.

    The whole of a top-level test is run when one of its cases is asked for. Vet is off: tests judge, not style.

    What a test prints reaches go as text, and go writes the report. Text that looks like the end of a test is read as
    one, so the worst that is said of a test counts, and where a package ends badly without a failed test none of its
    tests counts. Code can still deceive on purpose: it shares the process of its tests, and one that prints the lines
    of a passed test and then leaves by the system call, with 0, is believed.
    """

    name = "go"

    def toolchain(self, program: Path | None) -> Toolchain:
        """program: go; None: the system's. What tests import is in its module cache (`go mod download`) or vendored."""
        found = shutil.which("go", path=SYSTEM_PATH) if program is None else str(program.absolute())
        if found is None or not Path(found).is_file():
            raise InputError(f"{found or 'go'} is not there.", "Install Go, or name it as /path/to/go/bin/go.")
        root, modules = _folders(found)
        readable = [path for path in (root, modules) if path.is_dir() and not path.is_relative_to("/usr")]
        environment = {**ENVIRONMENT, "GOROOT": str(root), "GOMODCACHE": str(modules)}
        toolchain = Toolchain(
            runner="go",
            program=found,
            readable=tuple(map(str, readable)),
            environment=tuple(environment.items()),
        )
        toolchain, result = with_version(Jail.open(), toolchain, found, "version")
        if result.exit_code != 0 or not toolchain.version.startswith(STARTED):
            raise MachineError(
                f"{found} does not run in the jail: {result.note or toolchain.version}.", "Name another go."
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
        """Run tests of the module at the top of the tree, package by package; code that does not build fails them."""
        library = compiled_library(toolchain)
        result = jail.run(
            [
                *["/bin/sh", "-c", SCRIPT, toolchain.program, str(library or "")],
                *_arguments(tests, stop=stop_at_first_failure),
            ],
            tree=tree,
            overlay=overlay,
            readable=[*(Path(path) for path in toolchain.readable), *([library] if library else [])],
            environment=dict(toolchain.environment),
            limits=roomier(limits, open_files=1024, processes=256, disk_bytes=1 << 30),
        )
        entries = list(entries_of(result.stdout))
        if result.outcome == "exited":
            entries.append({"finished": str(result.exit_code)})
        return only_asked(told_run(result, entries, tests=tests, stops=stop_at_first_failure), tests)


def _folders(program: str) -> tuple[Path, Path]:
    """Where go has its own files and the modules that were downloaded."""
    try:
        told = subprocess.run(
            [program, "env", "GOROOT", "GOMODCACHE"], capture_output=True, text=True, timeout=60, check=True, cwd="/"
        ).stdout.split("\n")
    except (OSError, subprocess.SubprocessError) as cause:
        raise MachineError(f"{program} does not say where its files are: {cause}.", "Name another go.") from cause
    return Path(told[0]), Path(told[1])


_COMPILING = threading.Lock()


def compiled_library(toolchain: Toolchain) -> Path | None:
    """The standard library compiled, which takes longer than most tests; made once for each go of this user.

    Nothing but go's own files is read for it. None where go brings it along, as it did before 1.20.
    """
    root = Path(dict(toolchain.environment)["GOROOT"])
    if any(root.glob("pkg/linux_*/fmt.a")):
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "finetune" / f"go-{digest_text(f'{toolchain.version} {root}')[:16]}"
    with _COMPILING:
        if not folder.is_dir():
            _compile_library(toolchain, folder)
    return folder


def _compile_library(toolchain: Toolchain, folder: Path) -> None:
    with Progress(f"Compiling the standard library of {toolchain.version}, once", None), new_folder(folder) as scratch:
        environment = {**JAIL_ENVIRONMENT, **dict(toolchain.environment), "GOCACHE": str(scratch)}
        command = [toolchain.program, "build", "std"]
        try:
            subprocess.run(command, env=environment, cwd="/", capture_output=True, timeout=1800, check=True)
        except (OSError, subprocess.SubprocessError) as cause:
            raise MachineError(f"{' '.join(command)} fails: {cause}.", "Name a whole installation of Go.") from cause
        # the jail's user is another one
        for place in (scratch, *scratch.rglob("*")):
            place.chmod(0o755 if place.is_dir() else 0o644)


def _arguments(tests: Sequence[str], *, stop: bool) -> list[str]:
    packages = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    names = {test.partition("::")[2].partition("/")[0] for test in tests}
    # a package that is asked for whole needs all names
    chosen = [] if not tests or "" in names else [f"-run=^({'|'.join(sorted(names))})$"]
    return ["test", "-json", "-vet=off", "-p=2", *(["-failfast"] if stop else []), *chosen, *(packages or ["./..."])]


@dataclass(slots=True)
class _Package:
    """What was heard of a package: how its tests ended, by name, and how it did."""

    ended: defaultdict[str, set[TestOutcome]] = field(default_factory=lambda: defaultdict(set))
    begun: set[str] = field(default_factory=set)
    end: str = ""

    def hear(self, test: str, action: str) -> None:
        """Take one event; those of test "" are the package's."""
        if action == "run":
            self.begun.add(test)
        elif action in ENDS and test:
            self.ended[test].add(ENDS[action])
        elif action in ENDS:
            self.end = action

    def outcomes(self) -> Mapping[str, str]:
        """Each test's worst end; error for all where the process ended badly and no test says why."""
        worst = {
            test: min(ends, key=WORST_FIRST.index) if test in self.begun else "error"
            for test, ends in self.ended.items()
        }
        # begun and never ended
        worst.update(dict.fromkeys(self.begun - worst.keys(), "error"))
        if self.end in ("pass", "skip") or "failed" in worst.values():
            return worst
        return dict.fromkeys(["", *worst], "error")


def entries_of(stdout: str) -> Iterator[dict[str, str]]:
    """The report of told_run in what `go version` and `go test -json` wrote."""
    first, _, rest = stdout.partition("\n")
    if not first.startswith(STARTED):
        return
    yield {"started": first}
    packages: defaultdict[str, _Package] = defaultdict(_Package)
    for line in rest.splitlines():
        if not_built := NOT_BUILT.match(line):
            packages[not_built[1]].end = "fail"
        match _event(line):
            case {"Action": str(action), "Package": str(package), **others}:
                packages[package].hear(str(others.get("Test", "")), action)
    for path, heard in packages.items():
        for test, outcome in heard.outcomes().items():
            yield {"id": f"{path}::{test}" if test else path, "outcome": outcome}


def _event(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
