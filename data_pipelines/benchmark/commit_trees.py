"""Trees of many commits that hold each content once: it lies under its blob's name, and trees are hard links to it."""

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.benchmark.exported import MAX_FILE_BYTES, PROGRAM, place_of
from data_pipelines.document import TreeEntry
from data_pipelines.sources.git import Repository
from finetune.contracts.io import write_bytes, write_json


@dataclass(frozen=True, slots=True)
class Trees:
    """A folder of files by their blobs, and of trees made of them. One thread at a time."""

    folder: Path

    def export(self, repository: Repository, name: str) -> Path:
        """The tree of repository's commit, made where it is not there yet."""
        target = self.path(name)
        if not target.is_dir():
            left: Counter[str] = Counter()
            target.parent.mkdir(parents=True, exist_ok=True)
            # files are on disk already, and a link lost to a power cut is made again: nothing here is synced
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                (Path(scratch) / "tree").mkdir()
                for entry in repository.entries():
                    left[self._link(repository, entry, Path(scratch) / "tree")] += 1
                del left[""]
                write_json(self._note(name), dict(left))
                os.rename(Path(scratch) / "tree", target)
        return target

    def left_out(self, name: str) -> Counter[str]:
        """Entries of a tree that were left out, by reason."""
        note = self._note(name)
        return Counter(json.loads(note.read_text(encoding="utf-8"))) if note.is_file() else Counter()

    def remove(self, name: str) -> None:
        """Take a tree away; its files stay for others."""
        shutil.rmtree(self.path(name), ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a tree lies."""
        return self.folder / "trees" / name

    def _note(self, name: str) -> Path:
        return self.folder / "trees" / f"{name}.json"

    def _link(self, repository: Repository, entry: TreeEntry, root: Path) -> str:
        """ "" when it was linked, or why not."""
        place = place_of(entry, root)
        if isinstance(place, str):
            return place
        kept = self.folder / "blobs" / entry.blob[:2] / f"{entry.blob}.{entry.mode}"
        if not kept.is_file():
            content = repository.content(entry.blob, max_bytes=MAX_FILE_BYTES)
            if content is None:
                return f"missing, damaged or larger than {MAX_FILE_BYTES:,} bytes"
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(kept, content)
            kept.chmod(0o755 if entry.mode == PROGRAM else 0o644)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(kept, place)
        return ""
