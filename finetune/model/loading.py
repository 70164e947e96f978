"""Load a base model from disk: text class, bfloat16, 4-bit where the family allows it, audited, no network."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from finetune.contracts.adapter import BaseIdentity, Quantization
from finetune.contracts.code_references import refuse_code
from finetune.contracts.errors import BaseModelError, MachineError
from finetune.contracts.io import digest_file, digest_json, digest_text
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.model.base_copy import BaseCopies, Loader, load_through_copy
from finetune.model.copy_store import copy_settings
from finetune.model.delta_layers import use_fast_delta_rule
from finetune.model.host_embedding import move_embedding_to_host
from finetune.model.host_memory import freed_memory_returned
from finetune.model.identity import HINT, TOKENIZER_NAME, read_model_type
from finetune.model.quiet import quiet_libraries
from finetune.terminal.output import note

# Rows of every length leave gaps between fixed blocks; blocks that grow left 0.5 GiB of 21 unused at 8,192 tokens
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
# what bitsandbytes is told; 4-bit copies are kept apart by it
NF4: dict[str, JsonValue] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


@dataclass(frozen=True)
class LoadedBase:
    """A base in memory, with all that an adapter must agree on.

    model is the bare transformers model in eval mode, tokenizer its tokenizer; device is "cpu" or "cuda". The digests
    are SHA-256 of the chat template's text ("" where there is none) and of tokenizer.json.
    """

    model: Any
    tokenizer: Any
    family: Family
    identity: BaseIdentity
    quantization: Quantization
    device: str
    chat_template_digest: str
    tokenizer_digest: str


def load_base(
    path: Path,
    *,
    quantization: Quantization,
    device: str = "auto",
    embedding_on_host: bool = False,
    copies: BaseCopies | None = None,
    sharded: bool = False,
) -> LoadedBase:
    """Load the base in the folder path. device is "cpu", "cuda" or "auto": cuda if there is one.

    embedding_on_host frees the GPU of the embedding; on a CPU it changes nothing, and a note says so. copies is where
    4-bit copies of large bases are kept, so that they are not quantised at each start; None: nowhere. sharded: each
    process of the group holds a part of every decoder layer; of a 16-bit base only. Raises BaseModelError for a folder
    that is missing, damaged or not of a known family, MachineError for a GPU that is absent or has no bfloat16.
    """
    assert not sharded or quantization is Quantization.NONE, "4-bit weights lose bits when they are sharded"
    place = choose_device(device)
    family = family_for(read_model_type(path))
    tokenizer = load_tokenizer(path)
    family = family.for_tokenizer(tokenizer)
    read = partial(
        load_weights,
        quantization=quantization,
        device=place,
        keep_16bit=family.keep_16bit,
        experts=family.experts,
        sharded=sharded,
    )
    identity, model = load_through_copy(
        path,
        Loader(read),
        settings=copy_settings(digest_json(dict(NF4)), family.keep_16bit, family.experts, device=place),
        copies=copies,
        quantization=quantization,
    )
    # bitsandbytes may be imported only once libraries are quiet, as load_weights does
    from finetune.model.audit import audit_modules

    audit_modules(model, family, quantization)
    use_fast_delta_rule(model)
    if embedding_on_host:
        _free_gpu_of_embedding(model, place)
    return LoadedBase(
        model=model,
        tokenizer=tokenizer,
        family=family,
        identity=identity,
        quantization=quantization,
        device=place,
        chat_template_digest=digest_text(tokenizer.chat_template or ""),
        tokenizer_digest=digest_file(path / TOKENIZER_NAME),
    )


def _free_gpu_of_embedding(model: Any, device: str) -> None:
    if device == "cpu":
        note("base.embedding_on_host changes nothing on a CPU: the embedding is in host memory anyway.")
        return
    freed = move_embedding_to_host(model)
    torch.cuda.empty_cache()
    note(f"The embedding is in host memory: {freed / 2**30:.2f} GiB of the GPU are free for longer rows.")


def choose_device(device: str) -> str:
    """Resolve "auto" and refuse a GPU that is not there or has no bfloat16 (this family overflows in fp16)."""
    has_gpu = torch.cuda.is_available()
    if device == "cpu" or (device == "auto" and not has_gpu):
        return "cpu"
    if not has_gpu:
        raise MachineError(
            "There is no CUDA GPU here.", "Check that `nvidia-smi` lists one; without a GPU the CPU is taken by itself."
        )
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise MachineError(
            f"The GPU {torch.cuda.get_device_name()} has no bfloat16, and float16 gives NaN gradients in this family.",
            "Use a GPU of the Ampere generation or later (compute capability 8.0), or the device cpu.",
        )
    return "cuda"


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of the folder path, from its own files only.

    Raises BaseModelError when it is missing or damaged, or when a file of the folder refers to code.
    """
    with quiet_libraries():
        from transformers import AutoTokenizer

        if not (path / TOKENIZER_NAME).is_file():
            raise BaseModelError(f"There is no tokenizer in {path}: {TOKENIZER_NAME} is missing.", HINT)
        refuse_code(path, error=BaseModelError)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as cause:  # the Rust tokenizer raises bare Exception for a damaged file
            raise BaseModelError(f"The tokenizer in {path} cannot be loaded: {cause}.", HINT) from cause
    # A file may be longer than the base reads at once: it is cut after it was encoded, and what was cut is counted
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def load_weights(
    path: Path,
    *,
    quantization: Quantization,
    device: str,
    keep_16bit: Sequence[str],
    experts: tuple[str, ...] = (),
    multimodal: bool = False,
    copied: bool = False,
    sharded: bool = False,
) -> Any:
    """The text model of the folder path on device, in bfloat16; under nf4 all linear maps but keep_16bit are 4-bit.

    experts are suffixes of fused expert tensors, which are 4-bit then too. multimodal: the class around the text model.
    copied: the folder is a 4-bit copy, whose config.json says what is 4-bit. sharded: as in load_base. Raises
    BaseModelError when the files do not hold every weight that the configuration promises: the library would fill the
    gap with random numbers.
    """
    if device == "cuda" and not any(name in os.environ for name in ALLOCATOR_SETTINGS):
        # read when the first block is taken, which is here
        os.environ[ALLOCATOR_SETTINGS[0]] = "expandable_segments:True"
    with quiet_libraries(), freed_memory_returned():
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

        kind = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
        options = _quantization_options(keep_16bit, experts) if quantization is Quantization.NF4 else {}
        if copied:
            options.pop("quantization_config", None)
        read = kind.from_pretrained
        if sharded:
            from finetune.model.sharding import load_sharded

            read = partial(load_sharded, device=device)
        try:
            model, report = read(
                path,
                dtype=torch.bfloat16,
                device_map={"": device},
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as cause:
            raise BaseModelError(f"The weights in {path} cannot be loaded: {cause}.", HINT) from cause
        import finetune.model.audit  # noqa: F401  its import of bitsandbytes must happen while libraries are quiet
    missing = sorted(report["missing_keys"])
    if missing:
        raise BaseModelError(f"The weights in {path} lack {len(missing)} tensors, the first is {missing[0]}.", HINT)
    model.eval()
    return model


def _quantization_options(keep_16bit: Sequence[str], experts: tuple[str, ...]) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    # Giving the list replaces the library's default, which is lm_head alone: the list must be whole
    nf4: dict[str, Any] = {**NF4, "llm_int8_skip_modules": list(keep_16bit)}
    if not experts:
        return {"quantization_config": BitsAndBytesConfig(**nf4)}
    from finetune.model.experts import METHOD, ExpertsConfig

    return {"quantization_config": ExpertsConfig(experts=experts, **nf4), "experts_implementation": METHOD}
