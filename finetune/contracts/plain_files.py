"""Read files that a stranger may have made: plain ones of a bounded size alone, and JSON that says each thing once."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 16 << 20


class NotPlainError(ValueError):
    """The file is not what may be read; the text says why, without its name."""


def read_plain(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """The content of a file that is no link, pipe or device; nothing of those is opened for longer than to see that.

    Raises FileNotFoundError, and NotPlainError also for a file above max_bytes.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotPlainError(f"cannot be read as a plain file: {error.strerror}") from error
    # a folder cannot be made a stream
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotPlainError("is no plain file")
    with os.fdopen(handle, "rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise NotPlainError(f"has more than {max_bytes} bytes")
    return content


def parse_object(content: bytes) -> dict[str, Any]:
    """A JSON object. Raises NotPlainError for anything else, and for what two readers may read in two ways.

    That is a key given twice, NaN, an infinite number, and a nesting that no reader here would follow.
    """
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except NotPlainError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotPlainError("holds no valid JSON") from error
    if not isinstance(document, dict):
        raise NotPlainError("holds no JSON object where one belongs")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotPlainError(f"gives the key {twice[:120]!r} twice")
    return found


def _no_constant(text: str) -> float:
    raise NotPlainError(f"holds {text}, which is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotPlainError(f"holds {text[:40]}, which is no finite number")
    return value
