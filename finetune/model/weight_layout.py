"""Keep bitsandbytes from repacking 4-bit weights for inference, a layout through which no gradient flows.

On CPUs with AVX512-BF16, the first forward in eval mode rewrites the weights of every Linear4bit for a kernel that has
no backward. Training afterwards goes on without an error: the gradient that should pass through these layers is lost.
"""

from typing import Any


def forbid_packing(model: Any) -> int:
    """Unpack every 4-bit module of model and keep it unpacked; returns how many modules had been packed.

    Packing rounds the scales to bfloat16, so a module that was packed before is not bit for bit what was loaded.
    """
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse
    from bitsandbytes.nn import Linear4bit

    num_packed = 0
    for module in model.modules():
        if not isinstance(module, Linear4bit):
            continue
        module.support_avx512bf16_for_cpu = False
        if getattr(module.weight.quant_state, "packing_format_for_cpu", False):
            module.weight.data, module.weight.quant_state = _convert_weight_packed_for_cpu_inverse(
                module.weight.data, module.weight.quant_state
            )
            num_packed += 1
    return num_packed
