"""Fetch the wheels of a bundle with pip, at the versions of the lock, and try whether they fit each other."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from finetune.bundle.wheels import Target, Wheel, read_wheel
from finetune.contracts.errors import MachineError

# pip keeps nothing of a call that was stopped, so this is how many are fetched again
BATCH = 8


def fetch(wanted: Sequence[str], folder: Path, *, lock: Path, target: Target) -> list[Wheel]:
    """Have pip put the wheels of wanted, and of all that these need, into folder; returns them in order of names.

    Of what lies there nothing is fetched again, unless it is damaged: so the same call goes on where one was stopped,
    and a wheel that the user put there wins. pip runs as a child with the user's own settings: these alone say where
    wheels come from. Raises MachineError where pip is missing or fails.
    """
    if find_spec("pip") is None:
        raise MachineError("This environment has no pip.", "Run the command from a clone: `make` sets it up with pip.")
    pins, waiting = _pins(lock), [Requirement(text) for text in wanted]
    wheels: dict[str, Wheel] = {}
    _read_new(folder, wheels)
    done: dict[str, Requirement] = {}
    while waiting:
        missing = {canonicalize_name(one.name): one for one in waiting}
        specs = [_spec(one, pins) for name, one in missing.items() if name not in wheels]
        for start in range(0, len(specs), BATCH):
            _download(specs[start : start + BATCH], folder, target=target)
        _read_new(folder, wheels)
        done |= {str(one): one for one in waiting}
        needed = {str(one): one for last in waiting for one in _needs(last, wheels, target=target)}
        waiting = [one for text, one in needed.items() if text not in done]
    return [wheels[name] for name in sorted({canonicalize_name(one.name) for one in done.values()})]


def try_wheels(requirements: Path, folder: Path, *, target: Target) -> None:
    """Have pip resolve requirements from folder alone, as it will on the target. Raises MachineError if it cannot."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    options = ["--dry-run", "--ignore-installed", "--no-index", "--require-hashes", "--only-binary=:all:", "--quiet"]
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", *options]
    # pip asks for a place to install to where the machine is another; a dry run makes none
    place = ["--target", str(folder / "never")] if target.options else []
    command += ["--find-links", str(folder), *target.options, *place, "--requirement", str(requirements)]
    done = subprocess.run(command, env={**clean, "PIP_CONFIG_FILE": os.devnull}, stdout=sys.stderr, check=False)
    if done.returncode:
        raise MachineError(
            "The wheels do not fit each other; what pip says is above.",
            "Where it names one of --wheels, choose another; else requirements.lock does not fit this platform.",
        )


def _download(specs: Sequence[str], folder: Path, *, target: Target) -> None:
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--no-deps", "--dest", str(folder), *target.options, *specs]
    # its progress is for a person, and stdout is for the result
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise MachineError(
            "pip could not fetch the wheels; what it says is above.",
            "Check its settings (`pip config list`), then run the same command again: what was fetched is kept.",
        )


def _pins(lock: Path) -> dict[str, str]:
    """The version of each name in the lock."""
    lines = [line.strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _spec(requirement: Requirement, pins: dict[str, str]) -> str:
    """What pip is asked for; a name that the lock does not have, such as a library of CUDA, is asked for as it is."""
    pin = pins.get(canonicalize_name(requirement.name))
    return f"{requirement.name}=={pin}" if pin else f"{requirement.name}{requirement.specifier}"


def _needs(requirement: Requirement, wheels: dict[str, Wheel], *, target: Target) -> Iterator[Requirement]:
    """What the wheel of a requirement needs on the target, with the extras that the requirement names."""
    for text in wheels[canonicalize_name(requirement.name)].requires:
        one = Requirement(text)
        asked = ({**target.environment, "extra": extra} for extra in ("", *requirement.extras))
        if one.marker is None or any(one.marker.evaluate(environment) for environment in asked):
            one.marker = None
            yield one


def _read_new(folder: Path, found: dict[str, Wheel]) -> None:
    """Add to found, by name, the wheels in folder that are not in it; what a stopped pip left half-written is deleted.

    Raises MachineError for two of one name.
    """
    for path in sorted({*folder.glob("*.whl")} - {wheel.path for wheel in found.values()}):
        try:
            wheel = read_wheel(path)
        except MachineError:
            path.unlink()
            continue
        if wheel.name in found:
            raise MachineError(
                f"There are two wheels of {wheel.name}: {found[wheel.name].path} and {path.name}.",
                "Delete one of them, then run the same command again.",
            )
        found[wheel.name] = wheel
