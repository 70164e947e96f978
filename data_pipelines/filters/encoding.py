"""Bytes to text: UTF-8 or nothing. What is written otherwise is refused by its name, and nothing is guessed."""

import codecs
import re

BYTE_ORDER_MARK = "\ufeff"
# the mark of UTF-32 in little-endian order begins with that of UTF-16
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
ASCII = bytes(range(0x80))
# in western languages few letters carry an accent; other 8-bit encodings are made of bytes above ASCII
MAX_ACCENT_SHARE = 0.2


def decode(content: bytes) -> tuple[str, str | None]:
    """The text of a blob and None, or "" and why it is no text. A byte order mark of UTF-8 is left out."""
    mark = next((name for mark, name in MARKS if content.startswith(mark)), None)
    if mark:
        return "", f"{mark} with a byte order mark"
    if b"\0" in content:
        return "", "binary"
    try:
        return content.decode("utf-8").removeprefix(BYTE_ORDER_MARK), None
    except UnicodeDecodeError:
        return "", "Latin-1, not UTF-8" if _is_latin(content) else "not UTF-8"


def _is_latin(content: bytes) -> bool:
    num_accents = len(content.translate(None, ASCII))
    return num_accents <= MAX_ACCENT_SHARE * len(content) and not CONTROLS.search(content)
