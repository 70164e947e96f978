"""An embedding in host memory: same vectors, same gradients, and nothing carries it back."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import RecipeError
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.host_embedding import HostEmbedding, move_embedding_to_host
from finetune.model.loading import load_base
from finetune.model.lora import attach
from finetune.recipe.resolve import ResolvedLora

IDS = torch.tensor([[5, 17, 5, 300, 0, 64, 9, 2]])


def adapted(tiny_base: Path, *, on_host: bool) -> tuple[Any, Any]:
    """(PeftModel, its base model) with fixed factors that are not 0."""
    base = load_base(tiny_base, quantization=Quantization.NF4, device="cpu")
    if on_host:
        move_embedding_to_host(base.model)
    targets = QWEN3_5.targets["attention+mlp"]
    model = attach(base, ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=targets), seed=1)
    torch.manual_seed(3)
    for name, part in model.named_parameters():
        if "lora_B" in name:
            part.data = torch.randn_like(part) * 0.1
    return model, base.model


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_the_embedding_on_the_device(tiny_base: Path, checkpointing: bool) -> None:
    found = []
    for on_host in (False, True):
        model, base = adapted(tiny_base, on_host=on_host)
        if checkpointing:
            base.activation_checkpointing_enable()
        model.train()
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        found.append([loss.detach(), *(part.grad for part in model.parameters() if part.requires_grad)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in found[1])


def test_nothing_that_moves_a_model_takes_the_weight_along(tiny_base: Path) -> None:
    model, base = adapted(tiny_base, on_host=True)
    embedding = base.get_input_embeddings()
    assert isinstance(embedding, HostEmbedding)
    assert not any("embed_tokens" in name for name, _ in model.named_parameters())
    moved = copy.deepcopy(embedding).to("meta")
    assert moved.weight.device.type == "cpu"


def test_it_tells_how_much_it_freed(tiny_base: Path) -> None:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    assert move_embedding_to_host(base.model) == 320 * 64 * 2


def test_a_tied_embedding_is_refused(tiny_base: Path) -> None:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    base.model.config.tie_word_embeddings = True
    with pytest.raises(RecipeError, match="ties its embedding"):
        move_embedding_to_host(base.model)


def test_on_a_cpu_it_changes_nothing_and_says_so(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu", embedding_on_host=True)
    assert type(base.model.get_input_embeddings()) is torch.nn.Embedding
    assert "embedding_on_host changes nothing on a CPU" in capsys.readouterr().err
