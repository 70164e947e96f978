"""Keep the embedding of a base in host memory: the rows' vectors are gathered there, and only they go to the GPU.

The library's own way to leave a module on the host copies the whole matrix to the GPU in each pass.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from finetune.contracts.errors import RecipeError


class HostEmbedding(nn.Module):
    """Stands in for an nn.Embedding: weight (vocabulary, hidden) is frozen on the host, the output is on device.

    The weight is no parameter, so that nothing which moves a model to its device takes it along.
    """

    def __init__(self, weight: torch.Tensor, *, device: torch.device, padding_idx: int | None) -> None:
        super().__init__()
        host = weight.detach().to("cpu")
        self.weight = host.pin_memory() if device.type == "cuda" else host
        self.padding_idx = padding_idx
        self.num_embeddings, self.embedding_dim = weight.shape
        self.device = device

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (batch, tokens) to vectors (batch, tokens, hidden)."""
        gathered = F.embedding(ids.to(self.weight.device), self.weight)
        if self.device.type == "cuda":
            gathered = gathered.pin_memory()
        return gathered.to(self.device, non_blocking=True)


def move_embedding_to_host(model: Any) -> int:
    """Put the embedding of model into host memory; returns the bytes that it took.

    Raises RecipeError where the head is the same tensor: it is multiplied with in each step.
    """
    old = model.get_input_embeddings()
    if model.config.get_text_config().tie_word_embeddings:
        raise RecipeError(
            "base.embedding_on_host: this base ties its embedding to its head, which must stay on the GPU.",
            "Leave base.embedding_on_host out.",
        )
    if type(old) is not nn.Embedding:
        raise RecipeError(
            f"base.embedding_on_host: the embedding of this base is a {type(old).__name__}, not a plain table.",
            "Leave base.embedding_on_host out.",
        )
    weight = old.weight
    model.set_input_embeddings(HostEmbedding(weight, device=weight.device, padding_idx=old.padding_idx))
    return weight.numel() * weight.element_size()
