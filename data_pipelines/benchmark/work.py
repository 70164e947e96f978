"""The folder beside a suite that holds what a killed run of mining leaves to the next one."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from data_pipelines.benchmark.exported import export_tree
from data_pipelines.benchmark.judgement import Left
from data_pipelines.sources.git import Repository
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import DatasetError, InputError
from finetune.contracts.io import digest_json, read_model, sole_writer, write_json
from finetune.terminal.progress import Progress

HINT = "Remove that folder, then type the same again."
Kept = TypeVar("Kept", bound=Contract)


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of one repository, kind of task and toolchain."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The commit's files."""
        return self.folder / "tree"

    @property
    def journal(self) -> Path:
        """What was judged so far."""
        return self.folder / "judged.jsonl"

    def export(self, repository: Repository) -> Left:
        """Export the tree, once for all starts; how many entries were left out."""
        kept = self.folder / "exported.json"
        if not kept.is_file():
            write_json(kept, dict(export_tree(repository, self.tree)))
        return Counter({("export", reason): count for reason, count in json.loads(kept.read_text()).items()})

    def baseline(self, kind: type[Kept], take: Callable[[], Kept], *, title: str) -> Kept:
        """What take found, once for all starts, under the title of its progress."""
        kept = self.folder / "baseline.json"
        if not kept.is_file():
            with Progress(title, None):
                write_json(kept, take())
        return read_model(kept, kind, error=DatasetError, hint=HINT)


@contextmanager
def work_beside(out: Path, *of: JsonValue) -> Iterator[Work]:
    """The work for a suite at out; of is what makes it another one.

    Raises InputError while another process mines into out, whatever it mines.
    """
    folder = out.absolute().with_name(f".{out.name}.mining")
    work = Work(folder / digest_json(list(of))[:16])
    work.folder.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another process mines into {out} right now.", "Wait for it, or name another folder.")
    with sole_writer(folder / "lock", busy):
        yield work
