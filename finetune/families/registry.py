"""Find a family by the model type in a base model's config.json."""

from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family
from finetune.families.deepseek_v3 import DEEPSEEK_V3
from finetune.families.gemma import GEMMA
from finetune.families.llama import LLAMA
from finetune.families.mistral import MISTRAL
from finetune.families.mixtral import MIXTRAL
from finetune.families.qwen2 import QWEN2
from finetune.families.qwen3 import QWEN3
from finetune.families.qwen3_5 import QWEN3_5
from finetune.families.qwen3_5_moe import QWEN3_5_MOE
from finetune.families.qwen3_moe import QWEN3_MOE

FAMILIES: tuple[Family, ...] = (
    QWEN3_5,
    QWEN3_5_MOE,
    QWEN3,
    QWEN3_MOE,
    QWEN2,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    DEEPSEEK_V3,
    GEMMA,
)


def family_for(model_type: str) -> Family:
    """The family that serves model_type. Raises BaseModelError with the reason, if one is known, and what is served."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    reasons = [family.refused[model_type] for family in FAMILIES if model_type in family.refused]
    known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    message = f"The model type {model_type!r} is not supported" + (f": {reasons[0]}." if reasons else ".")
    raise BaseModelError(message, f"Supported model types: {known}.")
