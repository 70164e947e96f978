"""The canary repository: made-up code that holds each canary as often as its tier says, as git would have it.

It is a source like any other, so that every copy goes the way of the company's own code, from the object database on.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipelines.canaries.plan import draw_canaries
from data_pipelines.canaries.words import WORDS
from data_pipelines.config import CanarySection, SourceSection
from data_pipelines.draw import Draw
from data_pipelines.sources.process import run_git, safe_environment, start_git
from finetune.contracts.canaries import CANARY_REPO, Canary, CanaryPlace, CanaryPlan
from finetune.contracts.errors import MachineError

LINES_PER_FILE = 10
"""Canaries in a file; 16 files are the least, because no file holds a canary twice."""
# of no person, so that the redaction of names and addresses has nothing to find
AUTHOR = b"canary <canary@finetune.invalid> 946684800 +0000"
FOLDER = "canary.git"


def plant(section: CanarySection, folder: Path, *, seed: int, visibility: str) -> tuple[SourceSection, CanaryPlan]:
    """Make the canary repository in folder, and tell what it holds. Raises MachineError when git fails.

    visibility is what its rows carry: they must not form an access group of their own.
    """
    drawn = draw_canaries(section, seed=seed)
    files = _deal(drawn, seed=seed)
    path = folder / FOLDER
    commit = _commit({name: _code(lines, name, seed=seed) for name, lines in files.items()}, path)
    places: dict[str, list[CanaryPlace]] = {}
    for name, lines in files.items():
        text = _code(lines, name, seed=seed).splitlines()
        for canary in lines:
            places.setdefault(canary.id, []).append(CanaryPlace(path=name, line=text.index(canary.text) + 1))
    placed = tuple(canary.model_copy(update={"places": tuple(places.get(canary.id, ()))}) for canary in drawn)
    source = SourceSection(path=path, name=CANARY_REPO, visibility=visibility)
    return source, CanaryPlan(seed=seed, commit=commit, canaries=placed)


def _deal(canaries: Sequence[Canary], *, seed: int) -> dict[str, list[Canary]]:
    """Which canaries each file holds: every copy in another file, files about equally full, neighbours by chance."""
    planted = [canary for canary in canaries if "-planted-" in canary.id]
    total = sum(canary.copies for canary in planted)
    num_files = max(*(canary.copies for canary in planted), -(-total // LINES_PER_FILE))
    dealt: list[list[Canary]] = [[] for _ in range(num_files)]
    for canary in sorted(planted, key=lambda one: (-one.copies, one.id)):
        draw = Draw("canary files", seed, canary.id)
        order = sorted(range(num_files), key=lambda number: (len(dealt[number]), draw.fraction()))
        for number in order[: canary.copies]:
            dealt[number].append(canary)
    return {f"canaries/part_{number:04d}.py": lines for number, lines in enumerate(dealt)}


def _code(canaries: Sequence[Canary], path: str, *, seed: int) -> str:
    draw = Draw("canary code", seed, path)
    return "\n\n".join(_function(canary.text, draw) for canary in canaries)


def _function(line: str, draw: Draw) -> str:
    """A function of random words around a line; what is equal in two of them is too short to make files twins."""
    name, first, second, total, item, key = (f"{draw.pick(WORDS)}_{draw.pick(WORDS)}" for _ in range(6))
    return f"""def {name}({first}, {second}):
    {total} = {first}.get("{key}", {draw.below(900)})
{line}
    for {item} in range({draw.below(90)}, {draw.below(9000)}):
        {second}.{draw.pick(WORDS)}({item} + {total}, {draw.pick(WORDS)}={draw.below(900)})
    return {second}.{draw.pick(WORDS)}({total})
"""


def _commit(files: Mapping[str, str], path: Path) -> str:
    """Write the files as the only commit of a new bare repository at path; equal files give an equal commit."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    environment = safe_environment()
    status, _ = run_git(
        ["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "."], cwd=path, environment=environment
    )
    if status:
        raise MachineError(f"git could not make a repository in {path}.", "Is there space? Run the same command again.")
    child = start_git(["fast-import", "--quiet"], cwd=path, environment=environment, stdin=subprocess.PIPE)
    child.communicate(_stream(files))
    status, output = run_git(["rev-parse", "main"], cwd=path, environment=environment)
    if child.returncode or status:
        raise MachineError(f"git could not write into {path}.", "Is there space? Run the same command again.")
    return output.decode().strip()


def _stream(files: Mapping[str, str]) -> bytes:
    """The input of git fast-import."""
    message = b"Canaries: made-up secrets, no code of anybody"
    parts = [b"commit refs/heads/main\ncommitter %s\ndata %d\n%s\n" % (AUTHOR, len(message), message)]
    for name in sorted(files):
        content = files[name].encode()
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content))
    return b"".join(parts)
