"""The archive of a bundle: a tar whose bytes depend on its files alone."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from finetune.contracts.io import FILE_MODE, replaced

Content = Path | bytes


def write_archive(target: Path, files: Mapping[str, Content], *, seen: Callable[[int], None]) -> None:
    """Write files, by their names in the archive and in that order, as a tar that replaces target when it is whole.

    Nothing of the writer's machine goes in: no times, owners or modes. Wheels are compressed, so the tar is not.
    seen hears the bytes of each file. Raises MachineError when the disk refuses.
    """
    with (
        replaced(target) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = FILE_MODE
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                entry.size = len(content) if isinstance(content, bytes) else content.stat().st_size
                archive.addfile(entry, source)
            seen(entry.size)
