"""The arithmetic of a merge, one tensor of the checkpoint at a time: summed in float32 and rounded once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from finetune.adapters.places import Place
from finetune.adapters.tensor_files import StoredTensor, read_tensor
from finetune.contracts.errors import AdapterError
from finetune.contracts.merge import MergeForm
from finetune.model.factors import SavedFactors


@dataclass(frozen=True)
class MergedWeights:
    """What becomes of each tensor of a checkpoint.

    tensors are all of it, places those that hold a parameter that an adapter or 4 bits can change; factors and
    four_bit say which those are. device does the arithmetic.
    """

    tensors: Mapping[str, StoredTensor]
    places: Mapping[str, Place]
    factors: Mapping[str, SavedFactors]
    four_bit: frozenset[str]
    device: str

    def merged(self, tensor: StoredTensor, form: MergeForm) -> torch.Tensor | None:
        """The new values of a tensor in its own type, on the CPU; None where it stays as it is.

        Under NF4 each tensor that training held in 4 bits changes, adapted or not. Raises AdapterError where a sum is
        too large for the type.
        """
        place = self.places.get(tensor.name)
        if place is None or not self._changes(place, form):
            return None
        if place.expert is not None:
            values = self._part(tensor, place, place.expert, form=form)
        else:
            values = self._whole(read_tensor(tensor), place, form=form)
        if not torch.isfinite(values).all():
            raise AdapterError(f"{tensor.name} with the adapter is not finite as {tensor.dtype}.", "Do not merge it.")
        return values

    def num_changed(self, form: MergeForm) -> int:
        """Tensors that are not the base's in this form."""
        return sum(self._changes(place, form) for place in self.places.values())

    def _changes(self, place: Place, form: MergeForm) -> bool:
        return place.parameter in self.factors or (form is MergeForm.NF4 and place.parameter in self.four_bit)

    def _whole(self, base: torch.Tensor, place: Place, *, form: MergeForm) -> torch.Tensor:
        if base.ndim == 2:
            return self._sum(base, place, 0, form=form, rows=slice(None))
        result = torch.empty_like(base)
        for expert in range(len(base)):
            result[expert] = self._sum(base[expert], place, expert, form=form, rows=slice(None))
        return result

    def _part(self, tensor: StoredTensor, place: Place, expert: int, *, form: MergeForm) -> torch.Tensor:
        """An expert's matrix was quantised whole, so its parts are read together."""
        start = 0
        for name in place.siblings[: place.siblings.index(tensor.name)]:
            start += self.tensors[name].shape[0]
        rows = slice(start, start + tensor.shape[0])
        matrix = torch.cat([read_tensor(self.tensors[name]) for name in place.siblings])
        return self._sum(matrix, place, expert, form=form, rows=rows)

    def _sum(self, matrix: torch.Tensor, place: Place, expert: int, *, form: MergeForm, rows: slice) -> torch.Tensor:
        """rows of matrix (out, in) in this form, with the adapter, in the type of matrix."""
        total = matrix.to(self.device)
        if form is MergeForm.NF4 and place.parameter in self.four_bit:
            total = through_nf4(total)
        total = total[rows].float()
        if place.parameter in self.factors:
            total += self.factors[place.parameter].delta(expert, device=self.device)[rows]
        return total.to(matrix.dtype).cpu()


def through_nf4(matrix: torch.Tensor) -> torch.Tensor:
    """What the 4-bit form of matrix stands for, bfloat16: quantised as finetune.model.loading does, and back."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(matrix.to(torch.bfloat16).contiguous(), compress_statistics=True, quant_type="nf4")
    values: torch.Tensor = dequantize_4bit(packed, state)
    return values
