"""Prove which modules of a loaded base are 4-bit and which are 16-bit: a pattern that matches nothing is silent."""

from dataclasses import dataclass

import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family


@dataclass(frozen=True)
class ModuleAudit:
    """Full names of the linear modules that are held in 4 and in 16 bits."""

    four_bit: tuple[str, ...]
    sixteen_bit: tuple[str, ...]


def audit_modules(model: nn.Module, family: Family, quantization: Quantization) -> ModuleAudit:
    """Compare every linear module with what the family says of it.

    Under nf4, each module in keep_16bit must be bfloat16 and each target of the family 4-bit; any other linear module
    must be 16-bit too. Under none, nothing may be 4-bit. Raises BaseModelError naming the first surprise.
    """
    quantised = {suffix for suffixes in family.layer_targets.values() for suffix in suffixes}
    if quantization is Quantization.NONE:
        quantised = set()
    four_bit: list[str] = []
    sixteen_bit: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        found = isinstance(module, Linear4bit)
        (four_bit if found else sixteen_bit).append(name)
        _check(name, module, found=found, expected=name.rpartition(".")[2] in quantised)
    if quantised and not four_bit:
        raise BaseModelError("No module of the base was quantised.", "Report this with --debug.")
    return ModuleAudit(tuple(four_bit), tuple(sixteen_bit))


def _check(name: str, module: nn.Linear, *, found: bool, expected: bool) -> None:
    hint = "Compare `.venv/bin/pip freeze` with requirements.lock; if they agree, report this with --debug."
    if found != expected:
        has, wants = ("4-bit", "16-bit") if found else ("16-bit", "4-bit")
        raise BaseModelError(f"{name} was loaded in {has}; this family needs it in {wants}.", hint)
    if not found and module.weight.dtype is not torch.bfloat16:
        raise BaseModelError(f"{name} was loaded as {module.weight.dtype}; it must be bfloat16.", hint)
