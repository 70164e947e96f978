"""A base spread over two processes computes what a whole one does, to the bit, and each process holds a part of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.families.base import Family
from finetune.families.registry import FAMILIES
from finetune.recipe.resolve import ResolvedLora, read_text_config
from finetune.train.launch import run_ranks
from finetune.train.ranks import Ranks

pytestmark = pytest.mark.slow
ROW = [(index * 37) % 200 + 5 for index in range(40)]
SECTION = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "rank_stabilized": False}


@dataclass(frozen=True)
class Found:
    """What a process computed with a base: scores of a row before training and after a pass, the pass' loss and
    gradients; and how many bytes it held, of them in layers."""

    scores: tuple[float, float]
    loss: float
    gradients: Mapping[str, list[float]]
    held: int
    in_layers: int


def held_bytes(module: Any) -> int:
    parts = [getattr(part, "_local_tensor", part) for part in module.parameters() if not part.requires_grad]
    return sum(part.numel() * part.element_size() for part in parts)


def compute(folder: Path, targets: tuple[str, ...], *, sharded: bool) -> Found:
    """Score, then learn with activations computed again, then score: in the order of a run."""
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.model.scoring import row_losses
    from finetune.model.shape import decoder_layers

    base = load_base(folder, quantization=Quantization.NONE, device="cpu", sharded=sharded)
    model = attach(base, ResolvedLora(**SECTION, targets=targets))
    generator = torch.Generator().manual_seed(0)
    for name, part in model.named_parameters():
        if "lora_B" in name:
            # as attached it is 0, and so would be the gradient of A
            part.data = torch.randn(part.shape, generator=generator) * 0.1
    model.activation_checkpointing_enable()
    before = row_losses(model, [(ROW, ROW)], pad_token=0)[0]
    model.train()
    row = torch.tensor([ROW])
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=row, labels=row, use_cache=False).loss
    loss.backward()
    gradients = {name: part.grad.flatten().tolist() for name, part in model.named_parameters() if part.requires_grad}
    after = row_losses(model, [(ROW, ROW)], pad_token=0)[0]
    in_layers = sum(held_bytes(layer) for layer in decoder_layers(base.model))
    return Found((before, after), loss.item(), gradients, held_bytes(model), in_layers)


@dataclass(frozen=True)
class Compare:
    """Each base whole, and then spread over the processes; what each process found, by base."""

    bases: Mapping[str, tuple[Path, tuple[str, ...]]]

    def __call__(self, ranks: Ranks) -> dict[str, tuple[list[Found], list[Found]]]:
        torch.set_num_threads(1)
        return {
            name: (
                list(ranks.gather(compute(folder, targets, sharded=False))),
                list(ranks.gather(compute(folder, targets, sharded=True))),
            )
            for name, (folder, targets) in self.bases.items()
        }


def all_targets(family: Family, folder: Path) -> tuple[str, ...]:
    config = read_text_config(folder)
    return max((family.targets_of(preset, config) for preset in family.targets), key=len)


def test_each_family_computes_the_same_in_parts(family_base: Callable[[str], Path]) -> None:
    folders = {family.name: family_base(family.name) for family in FAMILIES}
    bases = {family.name: (folders[family.name], all_targets(family, folders[family.name])) for family in FAMILIES}
    for name, (whole, parts) in run_ranks(Compare(bases), 2, hint="").items():
        for one, other in zip(whole, parts, strict=True):
            assert (other.scores, other.loss) == (one.scores, one.loss), name
            assert other.gradients == one.gradients, name
            assert all(any(numbers) for numbers in one.gradients.values()), name
        outside = whole[0].held - whole[0].in_layers
        assert [found.held - found.in_layers for found in parts] == [outside, outside], name
        assert sum(found.in_layers for found in parts) == whole[0].in_layers, name
