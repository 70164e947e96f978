"""An adapter over the tiny base that changes its answers, exported as training does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.model.loading import LoadedBase


@dataclass(frozen=True)
class SavedAdapter:
    """A folder and what is in it."""

    folder: Path
    manifest: AdapterManifest


@pytest.fixture(scope="session")
def loaded(tiny_base: Path) -> LoadedBase:
    from finetune.model.loading import load_base

    return load_base(tiny_base, quantization=Quantization.NONE, device="cpu")


@pytest.fixture(scope="session")
def save_adapter(tiny_base: Path) -> Callable[..., SavedAdapter]:
    """Export an adapter whose B factors are random with the given spread."""
    import torch

    from finetune.adapters.export import AdapterOrigin, write_adapter
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.recipe.resolve import ResolvedLora

    def save(folder: Path, *, spread: float = 0.05, run_id: str = "shop-1") -> SavedAdapter:
        base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
        targets = base.family.targets["attention+mlp"]
        section = ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=targets)
        model = attach(base, section)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=spread, generator=generator)
        origin = AdapterOrigin(name="shop", run_id=run_id, dataset="d" * 64, recipe="e" * 64)
        return SavedAdapter(folder, write_adapter(model, base, section, origin=origin, folder=folder))

    return save


@pytest.fixture(scope="session")
def adapter(save_adapter: Callable[..., SavedAdapter], tmp_path_factory: pytest.TempPathFactory) -> SavedAdapter:
    """Read-only."""
    return save_adapter(tmp_path_factory.mktemp("adapters") / "adapter")
