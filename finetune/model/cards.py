"""Names of devices that are the same for every process on them, whatever it calls them itself."""

import socket
from pathlib import Path

import torch

from finetune.contracts.card import Card


def cards(folder: Path, num_cards: int = 1) -> list[Card]:
    """The first num_cards GPUs that this process sees, kept in folder under their own numbers; else the CPU, once.

    CUDA_VISIBLE_DEVICES may call one GPU 0 in one process and 1 in another; its UUID stays.
    """
    if not torch.cuda.is_available():
        return [Card(folder / f"cpu-{socket.gethostname()}")]
    seen = range(min(num_cards, torch.cuda.device_count()))
    return [Card(folder / f"gpu-{torch.cuda.get_device_properties(place).uuid}") for place in seen]
