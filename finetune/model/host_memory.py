"""Give freed host memory back to the system while a base is quantised.

glibc keeps freed pieces below a limit that grows to 32 MiB for itself. Between them lie the 4-bit weights, so that what
is kept is seldom whole enough for the next matrix: on a CPU, loading took twice the memory of the 16-bit base.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# names and numbers of malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALLEST_RETURNED_BYTES = 1 << 20
# where glibc's own limits end up once such a piece was freed: 32 MiB on a machine of 64 bits, and twice that
USUAL_BYTES = 32 << 20


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """While the block runs, freed pieces of 1 MiB or more go back at once; with another C library nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_THRESHOLD, SMALLEST_RETURNED_BYTES)
    try:
        yield
    finally:
        # in training the same sizes come again and again, and asking the system for each is slow
        mallopt(M_MMAP_THRESHOLD, USUAL_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * USUAL_BYTES)
