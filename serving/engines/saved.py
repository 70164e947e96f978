"""A saved adapter's factors, each checked against the linear map that it lies on."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch

from finetune.contracts.adapter import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, AdapterManifest
from finetune.contracts.errors import AdapterError
from finetune.model.adapter_keys import text_state
from serving.engines.slots import AdapterSlots, LinearFactors

PREFIX = "base_model.model."
HINT = "Load it over the base it was trained on, with the library versions of requirements.lock."


def read_linear_factors(folder: Path, manifest: AdapterManifest, slots: AdapterSlots) -> Mapping[str, LinearFactors]:
    """The factors of the adapter in folder by the full name of the map that each changes.

    Raises AdapterError for a tensor that the base has no place for, of another size or that is no number, and when one
    of the maps that the manifest's targets name has none.
    """
    from safetensors.torch import load

    # load_file of safetensors 0.8 leaves two numbers of each tensor in memory for ever, which adds up over many loads
    state = text_state(load((folder / ADAPTER_WEIGHTS_NAME).read_bytes()), manifest)
    scale = _scale(folder, manifest)
    found = {}
    for name in slots.names(manifest.targets):
        a, b = (_factor(state, f"{PREFIX}{name}.lora_{factor}.weight") for factor in "AB")
        size_in, size_out = slots.size_of(name)
        if (a.shape, b.shape) != ((manifest.rank, size_in), (size_out, manifest.rank)):
            raise AdapterError(f"The adapter's factors of {name} have not the size that the base has.", HINT)
        scaled = b.T * scale
        # 0 times an infinity is NaN, so it would reach the rows of others
        _check_finite(scaled, f"{PREFIX}{name}.lora_B.weight, scaled,")
        found[name] = LinearFactors(a, scaled)
    if state or not found:
        what = min(state).removeprefix(PREFIX) if state else "any tensor"
        raise AdapterError(f"The base has no place for {what} of the adapter.", HINT)
    return found


def _factor(state: dict[str, torch.Tensor], key: str) -> torch.Tensor:
    tensor = state.pop(key, None)
    if tensor is None:
        raise AdapterError(f"The adapter lacks {key}.", HINT)
    _check_finite(tensor, key)
    return tensor.float()


def _check_finite(tensor: torch.Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise AdapterError(
            f"The adapter's {what} holds what is no number.", "Train it again with a lower learning rate."
        )


def _scale(folder: Path, manifest: AdapterManifest) -> float:
    """alpha / rank, or alpha / sqrt(rank) where the adapter was made rank-stabilised (Kalajdzievski, 2312.03732)."""
    stabilised = json.loads((folder / ADAPTER_CONFIG_NAME).read_bytes()).get("use_rslora", False)
    return manifest.alpha / (math.sqrt(manifest.rank) if stabilised else manifest.rank)
