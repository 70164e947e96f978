"""What is free of a GPU's memory: for rows, and for prompts that are kept. On the CPU the operating system decides."""

import math

import torch

from serving.engines.cache import RowSize

# What the reading of a piece takes beside the rows
RESERVE_BYTES = 512 << 20
# Of the memory that is free beside the base, for kept prompts: they make way, but finding the way takes time
CACHE_SHARE = 0.25
HOST_CACHE_BYTES = 1 << 30


def lacks_room(size: RowSize, *, device: str, num_rows: int, num_tokens: int, held: int) -> bool:
    """Whether num_rows of num_tokens each, for which held bytes are taken already, may run out of memory."""
    # the newest row has its own cache until it has joined the batch
    wanted = size.bytes_of(num_rows, num_tokens) + size.bytes_of(1, num_tokens) - held
    return free_bytes(device) < wanted + RESERVE_BYTES


def cache_bytes(wanted: int | None, *, device: str) -> int:
    """How much may be kept of prompts: wanted; None is a quarter of what the GPU has free, 1 GiB of host memory."""
    if wanted is not None:
        return wanted
    free = free_bytes(device)
    return HOST_CACHE_BYTES if math.isinf(free) else int(CACHE_SHARE * free)


def free_bytes(device: str) -> float:
    """Bytes that can be allocated: those that the card has free, and those that torch holds and does not use."""
    if not device.startswith("cuda"):
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
