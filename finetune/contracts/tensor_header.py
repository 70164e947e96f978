"""The header of a safetensors file, read without a library: each byte behind it belongs to one tensor, and to one only.

Layout of the format: 8 bytes of length, a JSON header with dtype, shape and place of each tensor, then their bytes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.io import CHUNK_BYTES
from finetune.contracts.plain_files import MAX_JSON_BYTES, NotPlainError, parse_object

LENGTH_BYTES = 8
METADATA = "__metadata__"
# bytes of a number, and its exponent: all of its bits set mean that it is infinite or none
FLOATS = {"F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00)}
ITEM_BYTES = {name: int(form[-1]) for name, (form, _) in FLOATS.items()}


@dataclass(frozen=True, slots=True)
class HeaderTensor:
    """A tensor that a header announces. start and end are byte positions in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> tuple[HeaderTensor, ...]:
    """The tensors of a plain file in the order of their bytes, all of a floating-point type.

    Raises NotPlainError for a header that is too long or wrong, and unless the tensors fill the file without a gap.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or not 0 < length <= min(MAX_JSON_BYTES, size - LENGTH_BYTES):
            raise NotPlainError("is no safetensors file")
        header = parse_object(stream.read(length))
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise NotPlainError("has metadata that is no text")
    offset = LENGTH_BYTES + length
    found = [_tensor(name, entry, offset) for name, entry in header.items()]
    found.sort(key=lambda tensor: (tensor.start, tensor.end))
    for tensor in found:
        if tensor.start != offset:
            raise NotPlainError(f"has a gap or an overlap before {tensor.name[:120]!r}")
        offset = tensor.end
    if offset != size:
        raise NotPlainError(f"has {size - offset} bytes behind its tensors" if offset < size else "is cut short")
    return tuple(found)


def broken_tensor(path: Path, tensors: tuple[HeaderTensor, ...]) -> str | None:
    """The name of the first tensor with a number that is not finite; None where all are."""
    with path.open("rb") as stream:
        for tensor in tensors:
            stream.seek(tensor.start)
            if not all(_is_finite(piece, tensor.dtype) for piece in _pieces(stream, tensor.end - tensor.start)):
                return tensor.name
    return None


def _tensor(name: str, entry: Any, offset: int) -> HeaderTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise NotPlainError(f"holds {name[:120]!r}, which is no tensor")
    shape, places = entry["shape"], entry["data_offsets"]
    if not _are_counts(shape) or not _are_counts(places) or len(places) != 2:
        raise NotPlainError(f"holds {name[:120]!r}, which is no tensor")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in FLOATS:
        raise NotPlainError(f"holds {name[:120]!r}, which is not in 16- or 32-bit floating point")
    start, end = places
    if end - start != math.prod(shape) * ITEM_BYTES[entry["dtype"]]:
        raise NotPlainError(f"gives {name[:120]!r} another number of bytes than its shape has")
    return HeaderTensor(name, entry["dtype"], tuple(shape), offset + start, offset + end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _pieces(stream: Any, left: int) -> Iterator[bytes]:
    while left and (piece := stream.read(min(CHUNK_BYTES, left))):
        yield piece
        left -= len(piece)


def _is_finite(piece: bytes, dtype: str) -> bool:
    import numpy as np

    form, exponent = FLOATS[dtype]
    return not bool(((np.frombuffer(piece, dtype=form) & exponent) == exponent).any())
