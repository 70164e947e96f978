import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from finetune.contracts.errors import MachineError
from finetune.execution.jail import Jail


@pytest.fixture(scope="session")
def jail() -> Jail:
    try:
        return Jail.open()
    except MachineError as error:
        pytest.skip(str(error))


def commit(folder: Path, files: Mapping[str, str], message: str = "first") -> Path:
    """Commit files, into a new repository where folder is none yet."""
    folder.mkdir(exist_ok=True)
    for path, text in files.items():
        (folder / path).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=Ada Lovelace", "-c", "user.email=ada@corp.example"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", message]):
        subprocess.run([*git, *words], check=True)
    return folder
