"""How fast this machine multiplies: what the utilisation of a run is measured against."""

import time
from collections.abc import Callable

import torch

# The best of two sizes of square matrices: the larger fills a large GPU, the smaller stays in a CPU's caches
SIZES = {"cuda": (4096, 8192), "cpu": (512, 1024)}
SECONDS_PER_SIZE = 0.1


def matmul_tflops(device: str) -> float:
    """The most 10^12 operations a second that a bfloat16 matrix product reached on "cpu" or "cuda", in about 0.2 s.

    A product of n x n matrices counts 2 n^3. A short measurement meets a cool card: hours of work may clock lower.
    """
    return max(_best_tflops(size, device) for size in SIZES[device])


def _best_tflops(size: int, device: str) -> float:
    # Random, since a GPU clocks higher on constants; from a source of their own, so that the run's state stays as it is
    source = torch.Generator(device=device).manual_seed(0)
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device, generator=source) for _ in range(2))
    out = torch.empty_like(left)
    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else _nothing
    torch.mm(left, right, out=out)
    wait()
    best, ends = float("inf"), time.perf_counter() + SECONDS_PER_SIZE
    while time.perf_counter() < ends:
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        wait()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12


def _nothing() -> None:
    """A CPU has finished when the call returns."""
