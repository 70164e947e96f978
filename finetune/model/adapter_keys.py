"""Names of an adapter's tensors: for the text class that it was trained on, or for the multimodal class around it.

An engine that loads the multimodal class finds nothing under the names of the text class, and serves the base without a
word (vLLM 0.32; vllm issues 48019 and 49354): for it the names must run through the module that holds the text model.
"""

from collections.abc import Mapping

import torch

from finetune.contracts.adapter import AdapterKeys, AdapterManifest
from finetune.contracts.errors import AdapterError
from finetune.families.registry import family_for

TEXT_PREFIX = "base_model.model.model."


def text_state(state: Mapping[str, torch.Tensor], manifest: AdapterManifest) -> dict[str, torch.Tensor]:
    """state under the names of the text class, whichever its manifest says that it has.

    Raises AdapterError for a name that is not what the manifest says.
    """
    if manifest.keys is AdapterKeys.TEXT:
        return dict(state)
    return renamed(state, prefix=wrapper_prefix(manifest), to=TEXT_PREFIX)


def multimodal_state(state: Mapping[str, torch.Tensor], manifest: AdapterManifest) -> dict[str, torch.Tensor]:
    """state, under the names of the text class, under those of the multimodal class.

    Raises AdapterError where the family has no such class.
    """
    return renamed(state, prefix=TEXT_PREFIX, to=wrapper_prefix(manifest))


def wrapper_prefix(manifest: AdapterManifest) -> str:
    """What names begin with in the multimodal class. Raises AdapterError where the base's family has none."""
    family = family_for(manifest.base.model_type)
    if not family.wrapper:
        raise AdapterError(
            f"Bases of the family {family.name} are not wrapped in a multimodal class.",
            "Export it as it is: `finetune adapter export ADAPTER --out DIR`.",
        )
    return f"base_model.model.{family.wrapper}."


def renamed(state: Mapping[str, torch.Tensor], *, prefix: str, to: str) -> dict[str, torch.Tensor]:
    """state with the prefix of each name exchanged. Raises AdapterError for a name without it."""
    strange = sorted(name for name in state if not name.startswith(prefix))
    if strange:
        raise AdapterError(f"The tensor {strange[0]} of the adapter does not begin with {prefix}", "Export it again.")
    return {to + name.removeprefix(prefix): tensor for name, tensor in state.items()}
