"""Java: Maven's surefire, offline, with JUnit 4 or 5."""

import os
import re
import shutil
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.host import SYSTEM_PATH
from finetune.execution.jail import TREE, Jail, Limits
from finetune.execution.runners.base import (
    FOLDER,
    WORST_FIRST,
    TestOutcome,
    TestRun,
    inside_file,
    new_word,
    only_asked,
    reported,
    roomier,
    told_run,
    with_version,
)

REPOSITORY = "FINETUNE_MAVEN_REPOSITORY"
# small and quick to start; what a pom asks for its tests comes after these and wins
JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx1g"
# -llr: what was downloaded counts as there whatever the server was called
PLAIN = "-Dstyle.color=never"
ARGUMENTS = (
    *("-o", "-B", PLAIN, "-llr", "-Dmaven.test.failure.ignore=true", "-Dmaven.test.redirectTestOutputToFile=true"),
    *("-DtrimStackTrace=true", "-DfailIfNoTests=false", "-Dsurefire.failIfNoSpecifiedTests=false"),
)
ENDS: Mapping[str, TestOutcome] = {"failure": "failed", "error": "error", "skipped": "skipped"}
# the jail's user has no account: a folder of root's that is closed to others is empty for it
SEEN = 'ls "$1" >/dev/null && shift && exec "$0" "$@"'
# its output begins with an escape sequence, asked for or not
VERSION = re.compile(r"Apache Maven 3[.0-9]*")
IN_OPTIONS = re.compile(r"-Dmaven\.repo\.local=(\S+)")
IN_SETTINGS = re.compile(r"<localRepository>\s*([^<$]+?)\s*</localRepository>")


class JavaRunner:
    """Tests are `package.Class::method`, with `module/` before it in a build of several, or classes; classes run whole.

    Maven cannot stop at the first failure, so that all are run even when told to.

    Maven writes the reports, the tests run in another process, and what they print does not come near. Code can still
    deceive on purpose: it may write files that look like reports, or speak to Maven in its own tongue.
    """

    name = "java"

    def toolchain(self, program: Path | None) -> Toolchain:
        """program: mvn, version 3; None: the system's.

        Its local repository must hold the plugins and what the tests need (`mvn dependency:go-offline`, or the tests
        run once): the one that MAVEN_OPTS, ~/.m2/settings.xml or Maven's default names. The settings are not shown
        in the jail, for they may hold passwords.
        """
        found = shutil.which("mvn", path=SYSTEM_PATH) if program is None else str(program.absolute())
        if found is None or not Path(found).is_file():
            raise InputError(f"{found or 'mvn'} is not there.", "Install Maven 3, or name it as /path/to/bin/mvn.")
        repository, java = local_repository(), os.environ.get("JAVA_HOME", "")
        if not repository.is_dir():
            raise InputError(f"Maven's local repository {repository} is not there.", "Run the tests once: mvn test")
        home = Path(found).resolve().parent.parent
        places = [repository, home, *_settings_elsewhere(home), *([Path(java)] if java else [])]
        environment = {"JAVA_TOOL_OPTIONS": JAVA_OPTIONS, "MAVEN_SKIP_RC": "true", REPOSITORY: str(repository)}
        toolchain = Toolchain(
            runner="java",
            program=found,
            readable=tuple(sorted({str(place) for place in places if not place.is_relative_to("/usr")})),
            environment=tuple({**environment, **({"JAVA_HOME": java} if java else {})}.items()),
        )
        command = ("/bin/sh", "-c", SEEN, found, str(repository), PLAIN, "--version")
        toolchain, result = with_version(Jail.open(), toolchain, *command)
        version = VERSION.search(result.stdout)
        if result.exit_code != 0 or version is None:
            why = result.note or result.stderr.strip()[-300:]
            raise MachineError(
                f"{found} does not run in the jail as Maven 3 with {repository}: {why}.",
                f"Install Maven 3 and a JDK, and let others read its repository: chmod -R o+rX {repository}",
            )
        return toolchain.model_copy(update={"version": version[0]})

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
        """Run the classes that hold tests; code that does not compile fails them."""
        word = new_word()
        environment = dict(toolchain.environment)
        arguments = [*ARGUMENTS, f"-Dmaven.repo.local={environment.pop(REPOSITORY)}"]
        chosen = sorted({class_of(test).replace(".", "/") for test in tests})
        if chosen:
            arguments.append(f"-Dtest={','.join(chosen)}")
        result = jail.run(
            ["/bin/sh", f"{TREE}/{FOLDER}/java_run.sh", word, toolchain.program, *arguments, "test"],
            tree=tree,
            overlay={**overlay, f"{FOLDER}/java_run.sh": inside_file("java_run.sh")},
            readable=[Path(path) for path in toolchain.readable],
            environment=environment,
            limits=roomier(limits, open_files=4096, processes=512, disk_bytes=1 << 30),
        )
        entries = list(entries_of(reported(result.stdout, word)))
        return only_asked(told_run(result, entries, tests=tests, stops=False), tests)


def _settings_elsewhere(home: Path) -> list[Path]:
    """What Maven must read of its conf folder where a distribution keeps that elsewhere; not its settings.xml."""
    conf = (home / "conf").resolve()
    needed = [conf / "m2.conf", conf / "logging"]
    return [] if conf.is_relative_to(home) else [path for path in needed if path.exists()]


def local_repository() -> Path:
    """The folder in which Maven keeps what it downloaded."""
    settings = Path.home() / ".m2" / "settings.xml"
    text = settings.read_text(encoding="utf-8", errors="replace") if settings.is_file() else ""
    named = IN_OPTIONS.search(os.environ.get("MAVEN_OPTS", "")) or IN_SETTINGS.search(text)
    return Path(named[1]) if named else Path.home() / ".m2" / "repository"


def class_of(test: str) -> str:
    """The class of the file that holds a test, without module and inner class."""
    return test.partition("::")[0].rpartition("/")[2].partition("$")[0]


def entries_of(lines: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
    """The report of told_run in that of java_run.sh; of a test that is told twice the worse end counts."""
    ended: defaultdict[str, set[TestOutcome]] = defaultdict(set)
    for line in lines:
        if "xml" not in line:
            if "finished" in line:
                yield from ({"id": name, "outcome": min(ends, key=WORST_FIRST.index)} for name, ends in ended.items())
            yield line
            continue
        for name, outcome in _cases(b64decode(str(line["file"])).decode(errors="replace"), b64decode(str(line["xml"]))):
            ended[name].add(outcome)


def _cases(file: str, xml: bytes) -> Iterator[tuple[str, TestOutcome]]:
    """Tests in a report; of one that cannot be read, none."""
    prolog, root, _ = xml.partition(b"<testsuite")
    # entities are declared before the root, and a report has none
    if not root or b"<!" in prolog:
        return
    try:
        suite = ElementTree.fromstring(xml)  # noqa: S314 - it declares nothing
    except ElementTree.ParseError:
        return
    # MODULE/target/surefire-reports/TEST-name.xml
    module = PurePosixPath(file).parents[2].as_posix()
    for case in suite.iter("testcase"):
        outcomes = [ENDS[child.tag] for child in case if child.tag in ENDS]
        holder = case.get("classname", "")
        place = holder if module == "." else f"{module}/{holder}"
        name = case.get("name", "")
        # one without a name is the class's own set-up
        yield (
            (f"{place}::{name}" if name and name != holder else place),
            min(outcomes, key=WORST_FIRST.index, default="passed"),
        )
