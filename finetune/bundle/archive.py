"""The archive of a bundle: a tar whose bytes depend on its files alone."""

import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from finetune.contracts.io import FILE_MODE, disk_errors, sync_folder

Content = Path | bytes


def write_archive(target: Path, files: Mapping[str, Content], *, seen: Callable[[int], None]) -> None:
    """Write files, by their names in the archive and in that order, as a tar that replaces target when it is whole.

    Nothing of the writer's machine goes in: no times, owners or modes. Wheels are compressed, so the tar is not.
    seen hears the bytes of each file. Raises MachineError when the disk refuses.
    """
    with (
        disk_errors(target),
        _replaced(target) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = FILE_MODE
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                entry.size = len(content) if isinstance(content, bytes) else content.stat().st_size
                archive.addfile(entry, source)
            seen(entry.size)


@contextmanager
def _replaced(target: Path) -> Iterator[IO[bytes]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, FILE_MODE)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
