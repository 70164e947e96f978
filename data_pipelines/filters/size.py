"""Limits of bytes, of line lengths and of characters that carry meaning."""

from data_pipelines.config import FilterSection

# the one docstring of a small module may well be longer than an average line of code
MIN_LINES_FOR_MEAN = 5


def size_reason(num_bytes: int, section: FilterSection) -> str | None:
    """Why a file of this size is left out, before it is read; None when it is not."""
    if num_bytes < section.min_bytes:
        return f"smaller than {section.min_bytes} bytes"
    if num_bytes > section.max_bytes:
        return f"larger than {section.max_bytes} bytes"
    return None


def shape_reason(text: str, section: FilterSection) -> str | None:
    """Why a text's shape is not that of code a person wrote; None when it is."""
    lines = text.splitlines() or [""]
    if max(map(len, lines)) > section.max_line_chars:
        return f"a line longer than {section.max_line_chars} characters"
    if len(lines) >= MIN_LINES_FOR_MEAN and len(text) / len(lines) > section.max_mean_line_chars:
        return f"lines longer than {section.max_mean_line_chars} characters on average"
    if sum(map(str.isalnum, text)) < section.min_alphanumeric_share * len(text):
        return f"less than {section.min_alphanumeric_share:.0%} letters and digits"
    return None
