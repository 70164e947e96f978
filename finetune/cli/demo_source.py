"""What the demo reads where it is given nothing: the clone that it runs in, or what is installed, as a repository."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.contracts.run import Home

RECIPE = Path("recipes") / "qwen3_5" / "embedded-qlora.yaml"
# a clone, or the folder that packages are installed in
ABOVE = Path(__file__).resolve().parents[2]
# a bundle installs recipes at the root of its environment
PLACES = (ABOVE, Path(sys.prefix))
PACKAGES = ("data_pipelines", "finetune", "serving")
AUTHOR = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "user.name=finetune",
    "-c",
    "user.email=finetune@localhost",
    "-c",
    "commit.gpgsign=false",
)


def demo_recipe() -> Path:
    """The recipe of the demo. Raises InputError where it lies neither in the clone nor beside what is installed."""
    from finetune.contracts.errors import InputError

    for place in PLACES:
        if (place / RECIPE).is_file():
            return place / RECIPE
    raise InputError(
        f"{RECIPE} is missing in {ABOVE} and {sys.prefix}.",
        "Run the demo from a clone of the project, or install a bundle: see docs/air-gap.md.",
    )


def demo_repository(home: "Home") -> Path:
    """The clone that this program is in; where it is installed, a repository in the home with its own packages.

    That has one commit, made of Python files alone. Raises MachineError where git is missing or fails.
    """
    from finetune.contracts.errors import MachineError
    from finetune.contracts.io import new_folder

    if (ABOVE / ".git").exists():
        return ABOVE
    target, git = home.data / "demo-repository", shutil.which("git")
    if (target / ".git").is_dir():
        return target
    if git is None:
        raise MachineError("The demo reads a git repository, and git is not installed.", "Install the package git.")
    with new_folder(target) as scratch:
        for name in PACKAGES:
            shutil.copytree(ABOVE / name, scratch / name, ignore=_no_python)
        for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "What is installed")):
            done = subprocess.run([git, *AUTHOR, *words], cwd=scratch, capture_output=True, text=True, check=False)
            if done.returncode:
                raise MachineError(f"git {words[0]} failed: {done.stderr.strip()}", "Name a repository with --repo.")
    return target


def _no_python(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py") and not (Path(folder) / name).is_dir()]
