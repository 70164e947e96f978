"""A jail that was probed, and a small tree to run things in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.execution.jail import Jail, JailResult


@pytest.fixture(scope="session")
def jail() -> Jail:
    return Jail.open()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("VALUE = 1\n")
    (folder / "script.sh").write_text("echo old\n")
    (folder / "script.sh").chmod(0o755)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[core]\n")
    return folder


@pytest.fixture
def shell(jail: Jail, tree: Path) -> Callable[..., JailResult]:
    """Run a shell script in the tree."""

    def run(script: str, **options: object) -> JailResult:
        return jail.run(["/bin/sh", "-c", script], tree=tree, **options)  # type: ignore[arg-type]

    return run
