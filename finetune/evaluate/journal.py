"""Results of one model at the tasks of one suite, a line each as they come.

A killed evaluation goes on where it was, and a base that was measured once is not measured again: the file's name is
the digest of all that decides a result.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from finetune.contracts.adapter import Quantization
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.evaluation import SuiteName
from finetune.contracts.io import digest_json, digest_text, disk_errors, sole_writer, sync_folder
from finetune.evaluate.suite import Measured

LINE_DIGEST_CHARS = 16


class JournalKey(Contract):
    """All that decides a result. adapter is the digest of its weights, "" for the base alone.

    tasks is the suite's digest; base, tokenizer and template are digests of the base's parts; versions names this
    program and the libraries that compute.
    """

    suite: SuiteName
    tasks: str
    base: str
    tokenizer: str
    template: str
    adapter: str
    quantization: Quantization
    device: str
    versions: str


@dataclass(frozen=True, slots=True)
class Journal:
    """The file of one key in folder. Reading it while another process writes gives what was written before."""

    folder: Path
    key: JournalKey

    @property
    def path(self) -> Path:
        """Where the lines are."""
        return self.folder / self.key.suite.value / f"{digest_json(self.key)[:32]}.jsonl"

    def read(self) -> dict[str, Measured]:
        """Results by task. A line that a kill cut short, or that does not have its digest, is no result."""
        if not self.path.is_file():
            return {}
        with self.path.open(encoding="utf-8", errors="replace") as stream:
            found = [measured for line in stream if (measured := _parse(line))]
        return {measured.task_id: measured for measured in found}

    @contextmanager
    def writing(self) -> Iterator["JournalWriter"]:
        """Append while the block runs. Raises RunError when another process does, MachineError for a full disk."""
        busy = RunError(
            f"Another process measures the suite {self.key.suite.value} right now ({self.path}).",
            "Wait for it, or stop it; then type the same command again: what it has measured stays.",
        )
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with sole_writer(self.path.with_suffix(".lock"), busy), self.path.open("a", encoding="utf-8") as stream:
                # what a kill cut short must not swallow the next line
                stream.write("\n")
                yield JournalWriter(stream)
                stream.flush()
                os.fsync(stream.fileno())
            sync_folder(self.path.parent)


@dataclass(frozen=True, slots=True)
class JournalWriter:
    """Appends to an open journal."""

    stream: TextIO

    def add(self, measured: Measured) -> None:
        """Write one result; it outlives a kill of this process from here on."""
        text = json.dumps({**asdict(measured), "values": dict(measured.values)}, ensure_ascii=True)
        self.stream.write(f"{digest_text(text)[:LINE_DIGEST_CHARS]} {text}\n")
        self.stream.flush()


def _parse(line: str) -> Measured | None:
    digest, _, text = line.rstrip("\n").partition(" ")
    if not text or digest_text(text)[:LINE_DIGEST_CHARS] != digest:
        return None
    return Measured(**json.loads(text))
