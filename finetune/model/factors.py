"""The factors of a saved adapter, each with the parameter of the text model that it lies on and its scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME, AdapterManifest
from finetune.contracts.adapter_files import HINT
from finetune.contracts.errors import AdapterError
from finetune.model.adapter_keys import text_state
from finetune.model.quiet import quiet_libraries
from finetune.model.shape import meta_model

NAME = "saved"


@dataclass(frozen=True, slots=True)
class SavedFactors:
    """What an adapter adds to one parameter: a is (experts, rank, in), b (experts, out, rank), float32.

    A plain matrix counts as one expert.
    """

    a: torch.Tensor
    b: torch.Tensor
    scaling: float

    def delta(self, expert: int, *, device: str = "cpu") -> torch.Tensor:
        """The (out, in) sum for one expert's matrix, float32."""
        a, b = self.a[expert].to(device), self.b[expert].to(device)
        return (b @ a).mul_(self.scaling)


def read_factors(folder: Path, base: Path, manifest: AdapterManifest) -> Mapping[str, SavedFactors]:
    """Factors of the adapter in folder by the full name of the parameter that each changes, in the text class of base.

    PEFT itself says which lies where and how it is scaled: it attaches to a model on the meta device. Raises
    AdapterError for a tensor that the base has no place for, or that is missing.
    """
    model = _attached(folder, base)
    path = folder / ADAPTER_WEIGHTS_NAME
    from safetensors.torch import load_file

    state = text_state(load_file(path), manifest)
    found = {}
    for name, module in model.named_modules():
        if NAME not in getattr(module, "lora_A", ()):
            continue
        try:
            a, b = (state.pop(f"{name}.lora_{factor}.weight").float() for factor in "AB")
        except KeyError as cause:
            raise AdapterError(f"{path} lacks {cause.args[0]}.", HINT) from cause
        found[_parameter(name, module)] = _factors(a, b, module)
    if state:
        raise AdapterError(f"{path}: the base has no place for {min(state)}.", HINT)
    return found


def _attached(folder: Path, base: Path) -> Any:
    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig.from_pretrained(str(folder))
        config.base_model_name_or_path = None
        return get_peft_model(meta_model(base), config, adapter_name=NAME, low_cpu_mem_usage=True)


def _parameter(name: str, module: Any) -> str:
    # one wrapper of a fused tensor lies inside the other, under this name
    inner = name.removeprefix("base_model.model.").replace(".base_layer", "")
    return f"{inner}.{getattr(module, 'parameter_name', 'weight')}"


def _factors(a: torch.Tensor, b: torch.Tensor, module: Any) -> SavedFactors:
    scaling = float(module.scaling[NAME])
    num_experts = getattr(module, "num_experts", None)
    if num_experts is None:
        return SavedFactors(a[None], b[None], scaling)
    assert module.get_param().ndim == 3 and not getattr(module.get_base_layer(), "is_transposed", False)
    # the layout is that of PEFT's ParamWrapper.get_delta_factors: rows of A by expert, columns of B by rank
    return SavedFactors(
        a.reshape(num_experts, -1, a.shape[-1]),
        b.reshape(b.shape[0], -1, num_experts).permute(2, 0, 1),
        scaling,
    )
