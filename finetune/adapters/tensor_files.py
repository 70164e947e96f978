"""Rewrite a safetensors file tensor by tensor: what does not change is copied byte for byte, header included.

Layout of the format: 8 bytes of length, a JSON header with dtype, shape and place of each tensor, then their bytes.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import CHUNK_BYTES
from finetune.model.identity import HINT

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file. start and end are byte positions in the file; dtype is the format's own name."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def stored_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of a file in the order of their bytes. Raises BaseModelError for a damaged header."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        found = [_stored(path, name, entry, offset=8 + size) for name, entry in header.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise BaseModelError(f"{path} is damaged: its header cannot be read.", HINT) from cause
    return tuple(sorted(found, key=lambda tensor: tensor.start))


def _stored(path: Path, name: str, entry: dict[str, Any], *, offset: int) -> StoredTensor:
    start, end = entry["data_offsets"]
    return StoredTensor(path, name, entry["dtype"], tuple(entry["shape"]), offset + start, offset + end)


def read_tensor(tensor: StoredTensor) -> torch.Tensor:
    """Its values. Raises BaseModelError for a type that is not 16- or 32-bit floating point."""
    if tensor.dtype not in DTYPES:
        raise BaseModelError(
            f"{tensor.name} in {tensor.path} is stored as {tensor.dtype}: an adapter is merged into 16-bit weights.",
            "Give --base the folder of the 16-bit model.",
        )
    content = bytearray(tensor.end - tensor.start)
    with tensor.path.open("rb") as stream:
        stream.seek(tensor.start)
        if stream.readinto(content) != len(content):
            raise BaseModelError(f"{tensor.path} is cut short at {tensor.name}.", HINT)
    return torch.frombuffer(content, dtype=DTYPES[tensor.dtype]).reshape(tensor.shape)


def rewrite(
    source: Path,
    target: Path,
    change: Callable[[StoredTensor], torch.Tensor | None],
    *,
    wrote: Callable[[int], None],
) -> None:
    """Write source to target with the tensors for which change gives values of the same shape and type.

    wrote is called with the number of bytes of each piece. The file is on the disk when this returns.
    """
    with source.open("rb") as old, target.open("wb") as new:
        position = 0
        for tensor in stored_tensors(source):
            _copy(old, new, tensor.start - position)
            values = change(tensor)
            if values is None:
                _copy(old, new, tensor.end - tensor.start)
            else:
                _write(new, values, tensor)
                old.seek(tensor.end)
            wrote(tensor.end - position)
            position = tensor.end
        for piece in _chunks(old, None):
            new.write(piece)
        new.flush()
        os.fsync(new.fileno())


def _write(stream: BinaryIO, values: torch.Tensor, tensor: StoredTensor) -> None:
    assert (values.dtype, tuple(values.shape)) == (DTYPES[tensor.dtype], tensor.shape), tensor.name
    stream.write(memoryview(values.contiguous().view(torch.uint8).numpy()).cast("B"))


def _copy(old: BinaryIO, new: BinaryIO, count: int) -> None:
    for piece in _chunks(old, count):
        new.write(piece)


def _chunks(stream: BinaryIO, count: int | None) -> Iterator[bytes]:
    """Pieces of the next count bytes, None: of all that is left."""
    while count is None or count > 0:
        piece = stream.read(CHUNK_BYTES if count is None else min(count, CHUNK_BYTES))
        if not piece:
            return
        yield piece
        count = None if count is None else count - len(piece)
