"""Where a 16-bit model of a given size can be loaded on this machine."""

import psutil
import torch

# Beyond the weights: activations of a batch of rows, scores of its tokens, the libraries
SPARE = 1.15


def gpu_or_cpu() -> str:
    """The GPU, cuda, where there is one with bfloat16, else cpu: a merge is sums, which either can make."""
    usable = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "cuda" if usable else "cpu"


def device_with_room(num_bytes: int) -> str | None:
    """The first of "cuda" and "cpu" with free memory for num_bytes of weights and what running them needs, or None."""
    needed = num_bytes * SPARE
    if gpu_or_cpu() == "cuda" and torch.cuda.mem_get_info()[0] >= needed:
        return "cuda"
    return "cpu" if psutil.virtual_memory().available >= needed else None
