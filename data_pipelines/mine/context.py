"""Parts of other files of the repository, shown with a row and never learned."""

from dataclasses import dataclass

from data_pipelines.mine.row import Source


@dataclass(frozen=True, slots=True)
class ContextFile:
    """What a row shows of another file; lines are the first and the last of each piece of it, 1-based, inclusive."""

    document: Source
    text: bytes
    lines: tuple[tuple[int, int], ...]


def head_of(text: bytes, max_bytes: int) -> bytes:
    """The first lines of text in at most max_bytes; the beginning of the first line when that alone is longer."""
    if len(text) <= max_bytes:
        return text
    end = text.rfind(b"\n", 0, max_bytes) + 1
    return text[:end] if end else text[:max_bytes].decode("utf-8", "ignore").encode("utf-8")
