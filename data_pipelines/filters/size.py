"""Limits of bytes, of lines and of characters that carry meaning."""

import re
import string
from dataclasses import dataclass

from data_pipelines.config import FilterSection
from data_pipelines.filters.thresholds import Limits

# the one docstring of a small module may well be longer than an average line of code
MIN_LINES_FOR_MEAN = 5
ASCII = bytes(range(0x80))
ASCII_LETTERS = string.ascii_letters.encode()
ASCII_DIGITS = string.digits.encode()
WIDE_LETTERS = re.compile(r"[^\W\d_]+")
WIDE_DIGITS = re.compile(r"\d+")


def size_reason(num_bytes: int, section: FilterSection, *, max_bytes: int) -> str | None:
    """Why a file of this size is left out, before it is read; None when it is not."""
    if num_bytes < section.min_bytes:
        return f"smaller than {section.min_bytes} bytes"
    if num_bytes > max_bytes:
        return f"larger than {max_bytes} bytes"
    return None


@dataclass(frozen=True, slots=True)
class Shape:
    """Figures of a text: bytes, characters, lines, and how many characters are letters and digits."""

    num_chars: int
    num_lines: int
    max_line_chars: int
    num_letters: int
    num_digits: int

    @property
    def mean_line_chars(self) -> float:
        return self.num_chars / self.num_lines


def shape_of(text: str) -> Shape:
    """Measure a text without a look at each character from Python."""
    lines = text.splitlines() or [""]
    encoded = text.encode("utf-8")
    without_letters = encoded.translate(None, ASCII_LETTERS)
    letters = len(encoded) - len(without_letters)
    digits = len(without_letters) - len(without_letters.translate(None, ASCII_DIGITS))
    if not text.isascii():
        wide = without_letters.translate(None, ASCII).decode("utf-8")
        letters += sum(map(len, WIDE_LETTERS.findall(wide)))
        digits += sum(map(len, WIDE_DIGITS.findall(wide)))
    return Shape(len(text), len(lines), max(map(len, lines)), letters, digits)


def shape_reason(shape: Shape, limits: Limits) -> str | None:
    """Why a text's shape is not that of code a person wrote; None when it is."""
    if shape.num_lines > limits.max_lines:
        return f"more than {limits.max_lines} lines"
    if shape.max_line_chars > limits.max_line_chars:
        return f"a line longer than {limits.max_line_chars} characters"
    if shape.num_lines >= MIN_LINES_FOR_MEAN and shape.mean_line_chars > limits.max_mean_line_chars:
        return f"lines longer than {limits.max_mean_line_chars} characters on average"
    if shape.num_letters + shape.num_digits < limits.min_alphanumeric_share * shape.num_chars:
        return f"less than {limits.min_alphanumeric_share:.0%} letters and digits"
    if shape.num_letters < limits.min_alphabetic_share * shape.num_chars:
        return f"less than {limits.min_alphabetic_share:.0%} letters"
    return None
