"""The multimodal class around a text model, loaded to see that an adapter under its names acts there."""

from pathlib import Path
from typing import Any

from finetune.contracts.adapter import ADAPTER_WEIGHTS_NAME, AdapterManifest, Quantization
from finetune.contracts.adapter_files import check_base
from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import digest_file, digest_text
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.model.delta_layers import use_fast_delta_rule
from finetune.model.identity import TOKENIZER_NAME, read_identity
from finetune.model.loading import choose_device, load_tokenizer, load_weights
from finetune.model.lora import attach_state
from finetune.model.quiet import quiet_libraries


def attach_wrapped(base: Path, folder: Path, *, manifest: AdapterManifest, name: str) -> Any:
    """Load the multimodal model in the folder base as manifest says, with the adapter in folder over it; a PeftModel.

    The text maps are 4-bit if training had them so, vision stays in 16 bits. Raises AdapterError for an adapter of
    another base, or whose tensors do not fit; BaseModelError where base holds a text model alone.
    """
    from safetensors.torch import load_file

    identity = read_identity(base)
    tokenizer = load_tokenizer(base)
    template, tokens = digest_text(tokenizer.chat_template or ""), digest_file(base / TOKENIZER_NAME)
    check_base(manifest, identity, chat_template=template, tokenizer=tokens)
    model = load_wrapped(base, quantization=manifest.quantization, device=choose_device("auto"))
    return attach_state(model, load_file(folder / ADAPTER_WEIGHTS_NAME), folder=folder, name=name)


def load_wrapped(base: Path, *, quantization: Quantization, device: str) -> Any:
    """The multimodal model in the folder base. Raises BaseModelError where there is a text model alone."""
    family = family_for(read_identity(base).model_type)
    model = load_weights(
        base,
        quantization=quantization,
        device=device,
        keep_16bit=(*family.keep_16bit, *_others(base, family)),
        experts=family.experts,
        multimodal=True,
    )
    use_fast_delta_rule(model)
    return model


def _others(base: Path, family: Family) -> list[str]:
    """Modules of the multimodal class beside the text model."""
    import torch

    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForImageTextToText

        try:
            config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForImageTextToText.from_config(config)
            parent, _, own = family.wrapper.rpartition(".")
            return [f"{parent}.{name}" for name, _ in model.get_submodule(parent).named_children() if name != own]
        except (OSError, ValueError, AttributeError) as cause:
            raise BaseModelError(
                f"{base} holds no multimodal model around a {family.name} text model.",
                "Give --base the published folder, whose config.json has a text_config and a vision_config.",
            ) from cause
