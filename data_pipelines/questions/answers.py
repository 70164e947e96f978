"""Answers of a teacher, kept on disk: a build that was killed asks nothing twice, a rebuild gives the same bytes."""

import json
from pathlib import Path
from typing import Protocol

from finetune.contracts.io import write_json


class AnswerStore(Protocol):
    """Where answers are kept; a key is the digest of all that decides an answer."""

    def get(self, key: str) -> str | None: ...
    def put(self, key: str, answer: str) -> None: ...


class FileAnswers:
    """One file per answer under a folder. A file that is damaged counts as missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> str | None:
        """The answer, None when there is none."""
        try:
            document = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        answer = document.get("answer") if isinstance(document, dict) else None
        return answer if isinstance(answer, str) else None

    def put(self, key: str, answer: str) -> None:
        """Keep an answer. Raises MachineError when the disk refuses."""
        write_json(self._path(key), {"key": key, "answer": answer})

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
