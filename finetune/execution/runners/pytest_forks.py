"""Many texts tried in the place of files by one warm process in the jail: quick, and right to reject, not to accept."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finetune.contracts.executed import Toolchain
from finetune.execution.jail import TREE, Jail, JailResult, Limits
from finetune.execution.runners.base import FOLDER, inside_file, new_word, reported

START_SECONDS = 120.0
PROGRAMS = ("pytest_run.py", "pytest_forks.py")


@dataclass(frozen=True, slots=True)
class Trial:
    """Whole texts to be tried in the place of a file of the tree, and the tests that must tell them from it.

    What takes longer than so many seconds by the clock, or of a processor, has failed.
    """

    path: str
    texts: tuple[str, ...]
    tests: tuple[str, ...]
    seconds: float
    processor_seconds: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trials, by their place: the first text that all tests passed, None if each text failed one.

    stopped_at is the trial during which the jail ended; the ones behind it were not begun. None: it ended by itself, or
    before it began one.
    """

    survivors: Mapping[int, int | None]
    stopped_at: int | None


def try_texts(
    jail: Jail, toolchain: Toolchain, *, tree: Path, trials: Sequence[Trial], modules: Sequence[str], limits: Limits
) -> Tried:
    """Run the tests of each trial with each of its texts, until one survives.

    modules are imported once, before any code of the tree. limits hold for each text as for a run of its own, memory
    and disk for all together, time as each trial has it. A test that does not run to its end has failed.
    """
    environment = dict(toolchain.environment)
    given = [path for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path]
    paths = [f"{TREE}/src"] * (tree / "src").is_dir() + [str(TREE)] + given
    word = new_word()
    request = {
        "word": word,
        "paths": paths,
        "modules": list(modules),
        "output_bytes": limits.output_bytes,
        "trials": [asdict(one) for one in trials],
    }
    # a text may run twice
    seconds = sum(2 * len(one.texts) * (one.seconds + 1) for one in trials)
    result = jail.run(
        [toolchain.program, f"{TREE}/{FOLDER}/pytest_forks.py", f"{TREE}/{FOLDER}/request.json"],
        tree=tree,
        overlay={
            **{f"{FOLDER}/{name}": inside_file(name) for name in PROGRAMS},
            f"{FOLDER}/request.json": json.dumps(request).encode(),
        },
        writable=sorted({one.path for one in trials}),
        readable=[Path(path) for path in toolchain.readable],
        environment=environment,
        limits=replace(limits, timeout_seconds=START_SECONDS + seconds),
    )
    return _tried(result, word)


def _tried(result: JailResult, word: str) -> Tried:
    begun: list[int] = []
    survivors: dict[int, int | None] = {}
    for number, survivor in _lines(result, word):
        if survivor is None:
            begun.append(number)
        else:
            survivors[number] = survivor if survivor >= 0 else None
    stopped = [number for number in begun if number not in survivors]
    return Tried(survivors, stopped[0] if stopped else None)


def _lines(result: JailResult, word: str) -> Iterator[tuple[int, int | None]]:
    """A trial's place with its survivor, -1 for none, and None when it began."""
    for entry in reported(result.stdout, word):
        match entry:
            case {"begun": int(number)}:
                yield number, None
            case {"tried": int(number), "survivor": int(survivor)}:
                yield number, survivor
