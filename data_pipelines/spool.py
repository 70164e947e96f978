"""A scratch file that holds texts and arrays between the passes, so that memory does not grow with the repository."""

from pathlib import Path
from types import TracebackType
from typing import Self

from data_pipelines.document import Handle


class Spool:
    """Append bytes, read them back by handle. The file is deleted when the block ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # close may flush what a full disk refused before; the first error is the one to report
        try:
            self._file.close()
        finally:
            self._path.unlink(missing_ok=True)

    def append(self, content: bytes) -> Handle:
        """Store content at the end."""
        self._file.seek(self._end)
        self._file.write(content)
        handle = Handle(self._end, len(content))
        self._end += len(content)
        return handle

    def read(self, handle: Handle) -> bytes:
        """What was stored under handle."""
        self._file.seek(handle.offset)
        return self._file.read(handle.length)

    def text(self, handle: Handle) -> str:
        """read as UTF-8 text."""
        return self.read(handle).decode("utf-8")
