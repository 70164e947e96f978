"""A project of two tiny wheels, as large as the code needs to show that it works, and bundles of it."""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pip
import pytest

from finetune.bundle.create import MadeBundle, Project, create_bundle
from finetune.bundle.own_wheel import of_checkout
from finetune.bundle.wheels import Target, running_python

HERE = Target(None, running_python())
PYPROJECT = """
[project]
name = "finetune"
description = "Tiny"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = []
optional-dependencies = { more = ["tinydep>=1"], never = ["nowhere"] }
scripts = { finetune = "tinytool.main:main" }
"""
SAYS = "import tinydep\n\n\ndef main() -> None:\n    print('tiny', tinydep.KIND)\n"


def write_wheel(
    folder: Path, name: str, release: str, *, code: str = "", tag: str = "py3-none-any", **metadata: str
) -> Path:
    """A wheel of one module of its name."""
    start = f"{name}-{release}.dist-info"
    files = {
        f"{name}.py": code,
        f"{start}/METADATA": "".join(
            f"{key}: {value}\n"
            for key, value in {
                "Metadata-Version": "2.1",
                "Name": name,
                "Version": release,
                **{key.replace("_", "-"): value for key, value in metadata.items()},
            }.items()
        ),
        f"{start}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{start}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{start}/RECORD"])
    path = folder / f"{name}-{release}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


def write_project(root: Path, release: str) -> Project:
    """A checkout whose program `finetune` needs the wheel tinydep."""
    for name, text in {
        "tinytool/__init__.py": "",
        "tinytool/main.py": SAYS,
        "tinytool/__pycache__/main.pyc": "left out",
        "recipes/a.yaml": "name: a\n",
        "docs/a.md": "# A\n",
        "requirements.lock": "tinydep==1.0\n",
        "pyproject.toml": PYPROJECT,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Project(of_checkout(root, version=release, packages=["tinytool"]), root, extras=("more",))


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: the wheels that pip finds; pip itself is packed from where it is installed."""
    folder = tmp_path_factory.mktemp("index")
    write_wheel(folder, "tinydep", "1.0", code="KIND = 'plain'\n", License="MIT")
    write_wheel(folder, "tinydep", "2.0", code="KIND = 'newer than the lock'\n")
    site = Path(pip.__file__).parents[1]
    with zipfile.ZipFile(folder / f"pip-{version('pip')}-py3-none-any.whl", "w") as archive:
        for part in ("pip", f"pip-{version('pip')}.dist-info"):
            for path in sorted((site / part).rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    archive.write(path, path.relative_to(site))
    return folder


@contextmanager
def pip_looks_in(index: Path) -> Iterator[None]:
    """pip has no settings but this folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        yield


@pytest.fixture(scope="session")
def make_bundle(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MadeBundle]:
    """Bundles the tiny project in a release."""

    def make(release: str = "1.0", own_wheels: Path | None = None, *, target: Target = HERE) -> MadeBundle:
        place = tmp_path_factory.mktemp("bundle")
        project = write_project(place / "project", release)
        with pip_looks_in(index):
            return create_bundle(project, place / "tiny.tar", target=target, own_wheels=own_wheels)

    return make


@pytest.fixture(scope="session")
def made(make_bundle: Callable[..., MadeBundle]) -> MadeBundle:
    """Read-only: a bundle of release 1.0."""
    return make_bundle()
