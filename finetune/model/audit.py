"""Prove which weights of a loaded base are 4-bit and which are 16-bit: a pattern that matches nothing is silent."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family

HINT = "Compare `.venv/bin/pip freeze` with requirements.lock; if they agree, report this with --debug."


@dataclass(frozen=True)
class ModuleAudit:
    """Full names of the linear modules, and of fused expert tensors, that are held in 4 and in 16 bits."""

    four_bit: tuple[str, ...]
    sixteen_bit: tuple[str, ...]


def audit_modules(model: nn.Module, family: Family, quantization: Quantization) -> ModuleAudit:
    """Compare every linear module and fused tensor with what the family says of it.

    Under nf4, each module in keep_16bit must be bfloat16 and each target of the family 4-bit. Under none, nothing may
    be 4-bit. Raises BaseModelError naming the first surprise: another width, or a layer that the family does not know.
    """
    nf4 = quantization is not Quantization.NONE
    four_bit: list[str] = []
    sixteen_bit: list[str] = []
    for name, weight, found in _weights(model, family):
        (four_bit if found else sixteen_bit).append(name)
        expected = family.is_quantised(name) or family.is_quantised(f"{name}.weight")
        if not expected and name.rpartition(".")[2] not in family.keep_16bit:
            raise BaseModelError(f"{name} is a layer that the family {family.name} does not know.", HINT)
        _check(name, weight, found=found, expected=nf4 and expected)
    if nf4 and not four_bit:
        raise BaseModelError("No module of the base was quantised.", "Report this with --debug.")
    return ModuleAudit(tuple(four_bit), tuple(sixteen_bit))


def _weights(model: nn.Module, family: Family) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name, weight, and whether it is 4-bit, of each linear module and each fused tensor."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module.weight, isinstance(module, Linear4bit)
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{leaf}"
            # a convolution's weight has three dimensions too, and is no target
            if full.endswith(family.experts) or (parameter.ndim == 3 and not isinstance(module, nn.Conv1d)):
                yield full, parameter, parameter.dtype is torch.uint8


def _check(name: str, weight: torch.Tensor, *, found: bool, expected: bool) -> None:
    if found != expected:
        has, wants = ("4-bit", "16-bit") if found else ("16-bit", "4-bit")
        raise BaseModelError(f"{name} was loaded in {has}; this family needs it in {wants}.", HINT)
    if not found and weight.dtype is not torch.bfloat16:
        raise BaseModelError(f"{name} was loaded as {weight.dtype}; it must be bfloat16.", HINT)
