"""The Python code that benchmarks of the scan read."""

import random
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_BYTES = 200_000


def python_files(folder: Path, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Files that are UTF-8 and of a size that the default filters keep, in a seeded order.

    Of a standard library without what is installed below it.
    """
    inside = folder.name == "site-packages"
    files = sorted(path for path in folder.rglob("*.py") if inside or "site-packages" not in path.parts)
    random.Random(seed).shuffle(files)
    for path in files:
        content = path.read_bytes()
        if len(content) <= MAX_FILE_BYTES and is_text(content):
            yield path, content


def is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
