"""The folder in which a dataset is made: what earlier builds found, the key, and a lock against a second build."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.engine.store import STORE_NAME
from finetune.contracts.errors import MachineError
from finetune.contracts.io import digest_text, disk_errors, sole_writer, sync_folder

KEY_NAME = "redaction.key"
KEY_BYTES = 32
LOCK_NAME = "lock"
PLACE_NAME = "dataset"


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of one dataset under the data folder of a home. Nothing in it is part of the dataset."""

    folder: Path

    @property
    def store(self) -> Path:
        """Results and texts."""
        return self.folder / STORE_NAME

    @property
    def surveys(self) -> Path:
        """What repositories hold at a commit, a folder each."""
        return self.folder / "surveys"

    @property
    def packs(self) -> Path:
        """Results that a worker finished and that are not yet in the store."""
        return self.folder / "packs"

    @property
    def parts(self) -> Path:
        """Rows that were written, a folder for each part."""
        return self.folder / "parts"

    @property
    def answers(self) -> Path:
        """What a teacher answered."""
        return self.folder / "answers"

    @property
    def stages(self) -> Path:
        """Inputs and logs of stages that run."""
        return self.folder / "stages"

    @property
    def ledger(self) -> Path:
        """The scratch database of a build."""
        return self.folder / "ledger.db"

    @property
    def place(self) -> Path | None:
        """The dataset that is made here; None for a folder that no build noted it in."""
        path = self.folder / PLACE_NAME
        return Path(path.read_text(encoding="utf-8")) if path.is_file() else None

    def note_place(self, out: Path) -> None:
        """Keep where the dataset lies, so that all datasets of a home can be listed."""
        write_private(self.folder / PLACE_NAME, str(out.resolve()))

    def new_stage(self, name: str) -> Path:
        """A folder for the inputs of a stage, its name never used before: workers keep what they read of it."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.stages))

    def sweep(self, *, surveys: Iterable[str], parts: Iterable[str]) -> None:
        """Delete what the build that just ended has no use for."""
        shutil.rmtree(self.stages, ignore_errors=True)
        for scratch in self.packs.glob(".*"):
            scratch.unlink()
        for folder, names in ((self.surveys, set(surveys)), (self.parts, set(parts))):
            for entry in folder.iterdir() if folder.is_dir() else ():
                if entry.name not in names:
                    shutil.rmtree(entry, ignore_errors=True)


def work_of(data_folder: Path, out: Path) -> Work:
    """The work folder of the dataset that is built at out."""
    place = str(out.resolve())
    return Work(data_folder / f"{out.name}-{digest_text(place)[:10]}")


@contextmanager
def locked(work: Work) -> Iterator[None]:
    """Keep other builds of the same dataset away. Raises MachineError when one is at work."""
    for folder in (work.surveys, work.packs, work.parts, work.stages):
        folder.mkdir(parents=True, exist_ok=True)
    # it holds redacted code, but names of persons and messages of commits as they are
    work.folder.chmod(0o700)
    busy = MachineError(
        f"Another build of this dataset is at work in {work.folder}.", "Wait for it to end, then build again."
    )
    with sole_writer(work.folder / LOCK_NAME, busy):
        # of a build that was killed: they hold the key, and texts that nothing was taken out of
        for stage in work.stages.iterdir():
            shutil.rmtree(stage, ignore_errors=True)
        # of another version: what is forgotten would stay in it
        for store in set(work.folder.glob("store-*.db")) - {work.store}:
            store.unlink()
        yield


def own_key(data_folder: Path) -> bytes:
    """The key of a home's placeholders: made by chance at the first build, readable by its owner alone."""
    path = data_folder / KEY_NAME
    if not path.is_file():
        data_folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{KEY_NAME}.{os.getpid()}")
        with disk_errors(path), os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
            stream.write(os.urandom(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        # a second build that began at the same time may have been first: its key stays
        with suppress(FileExistsError):
            os.link(scratch, path)
        scratch.unlink()
        sync_folder(data_folder)
    return path.read_bytes()


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read: it holds a key, or names of persons."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def recover(out: Path) -> None:
    """Clear what killed builds of the dataset at out left beside it; what stood there before is put back."""
    for old in sorted(out.parent.glob(f".{out.name}.old.*")):
        if not out.exists() and (old / "was").is_dir():
            os.rename(old / "was", out)
        shutil.rmtree(old, ignore_errors=True)
    for scratch in out.parent.glob(f".{out.name}.new.*"):
        shutil.rmtree(scratch, ignore_errors=True)
