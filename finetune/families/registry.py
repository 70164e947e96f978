"""Find a family by the model type in a base model's config.json."""

from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family
from finetune.families.qwen3_5 import QWEN3_5

FAMILIES: tuple[Family, ...] = (QWEN3_5,)


def family_for(model_type: str) -> Family:
    """The family that serves model_type. Raises BaseModelError with the supported types when none does."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    raise BaseModelError(f"The model type {model_type!r} is not supported.", f"Supported model types: {known}.")
