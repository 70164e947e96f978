"""Bytes to text: UTF-8 or nothing."""

BYTE_ORDER_MARK = "\ufeff"


def decode(content: bytes) -> tuple[str, str | None]:
    """The text of a blob and None, or "" and why it is no text. A byte order mark is left out."""
    if b"\0" in content:
        return "", "binary"
    try:
        return content.decode("utf-8").removeprefix(BYTE_ORDER_MARK), None
    except UnicodeDecodeError:
        return "", "not UTF-8"
