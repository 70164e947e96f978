"""Blind votes: what a reader chose among answers whose models had no names, one JSON line each.

The server appends, and `finetune serve votes` reads. Nothing in the file is ever changed.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.io import disk_errors, sync_folder

FILE_NAME = "votes.jsonl"
MAX_CANDIDATES = 4
MAX_NAME = 200
MAX_PROMPT_PARTS = 64
MAX_PROMPT_CHARACTERS = 100_000
MAX_FILE_BYTES = 256 << 20
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Prompt = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)], ...], Field(max_length=MAX_PROMPT_PARTS)
]


class Candidate(Contract):
    """Who answered: the name that was asked, and the exact version behind it, as system_fingerprint tells it."""

    name: Name
    version: Name


class Choice(Contract):
    """candidates stand in the order in which they were shown, which was drawn; choice is the place of the best, from 0.

    "tie": all are as good; "none": none is of use. prompt is what was asked, kept only if the reader said so: the
    reader's turns of a chat, or the texts before and after the cursor; None: not kept. Versions differ: a vote between
    an adapter and itself says nothing.
    """

    mode: Literal["chat", "infill"]
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=2, max_length=MAX_CANDIDATES)]
    choice: Annotated[int, Field(ge=0, strict=True)] | Literal["tie", "none"]
    prompt: Prompt | None = None

    @model_validator(mode="after")
    def _among_different_ones(self) -> Self:
        if isinstance(self.choice, int) and self.choice >= len(self.candidates):
            raise ValueError(f"choice {self.choice} is none of the {len(self.candidates)} candidates")
        if len({one.version for one in self.candidates}) < len(self.candidates):
            raise ValueError("two candidates are the same version")
        return self


class Vote(Choice):
    """A line of the file. at_ms is when the server took it, in milliseconds since 1970, UTC."""

    schema_version: Literal[1] = 1
    at_ms: int


def append_vote(path: Path, vote: Vote) -> None:
    """Add a line; it is on the disk when this returns. Raises MachineError for a disk that refuses or a full file."""
    line = json.dumps(vote.model_dump(mode="json"), ensure_ascii=False).encode() + b"\n"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        # several servers of one home share the file
        with open(path, "a+b", buffering=0, opener=_private) as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
            size = stream.seek(0, os.SEEK_END)
            if size + len(line) > MAX_FILE_BYTES:
                raise MachineError(f"{path} has {size} bytes, which is the most it may have.", "Move it away.")
            _write(stream.fileno(), line if _ends_a_line(path, size) else b"\n" + line)
            os.fsync(stream.fileno())
        if is_new:
            sync_folder(path.parent)


def read_votes(path: Path) -> list[Vote]:
    """All votes in the order of their coming, none where there is no file.

    What a crash cut short was never acknowledged and is left out. Raises RunError for a line that is whole but no vote.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    votes = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            document = json.loads(line)
        except ValueError:
            continue
        try:
            votes.append(Vote.model_validate(document))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise RunError(
                f"Line {number} of {path} is no vote: {where}: {first['msg']}.",
                "It is of another version of this program, or was changed by hand: take the line out.",
            ) from error
    return votes


def _private(name: str, flags: int) -> int:
    # kept prompts are for whoever keeps the home
    return os.open(name, flags, 0o600)


def _ends_a_line(path: Path, size: int) -> bool:
    if not size:
        return True
    with path.open("rb") as stream:
        stream.seek(size - 1)
        return stream.read(1) == b"\n"


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
