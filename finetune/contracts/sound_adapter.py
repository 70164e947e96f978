"""What an adapter folder must be before anybody loads it, whoever made it: the one check of exports and of the server.

Files of pickles run code when they are opened, links lead elsewhere, pipes never end, and a header may announce what no
memory holds; none of them gets as far as a library.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, AdapterManifest
from finetune.contracts.adapter_files import HINT, check_entries, read_adapter
from finetune.contracts.errors import AdapterError
from finetune.contracts.plain_files import NotPlainError, parse_object, read_plain
from finetune.contracts.tensor_header import HeaderTensor, broken_tensor, read_header

# What a LoRA configuration of this project may set; whatever else is set asks for more than two factors per module.
PLAIN_KEYS = frozenset(
    {
        "base_model_name_or_path", "bias", "inference_mode", "init_lora_weights", "lora_alpha", "lora_dropout",
        "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision", "target_modules",
        "target_parameters", "task_type", "use_rslora",
    }
)  # fmt: skip
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<factor>[AB])\.weight", re.ASCII)


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """Bounds of what is taken into memory; max_bytes is of all files together."""

    max_rank: int = 1 << 16
    max_bytes: int = 64 << 30


def check_sound(folder: Path, limits: AdapterLimits | None = None) -> AdapterManifest:
    """The manifest, after files, configuration and tensors were found to be what it says, within limits.

    No model library is loaded. Raises AdapterError naming the first thing that does not hold.
    """
    limits = limits or AdapterLimits()
    try:
        check_entries(folder, max_bytes=limits.max_bytes)
        manifest = read_adapter(folder)
        _check_weights_name(folder, manifest)
        if manifest.rank > limits.max_rank:
            raise AdapterError(
                f"The adapter {manifest.adapter_id} has rank {manifest.rank}, {limits.max_rank} is the limit here.",
                "Start the server with a higher limit, or train with a lower lora.rank.",
            )
        _check_config(folder / ADAPTER_CONFIG_NAME, manifest)
        _check_tensors(folder / ADAPTER_WEIGHTS_NAME, manifest)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read: {error.strerror}.", HINT) from error
    return manifest


def _check_weights_name(folder: Path, manifest: AdapterManifest) -> None:
    weights = {entry.name: entry.sha256 for entry in manifest.files}.get(ADAPTER_WEIGHTS_NAME, "")
    if weights != manifest.digests.weights:
        raise AdapterError(
            f"{folder / ADAPTER_WEIGHTS_NAME} is not the file whose digest the manifest names as the weights.", HINT
        )


def _check_config(path: Path, manifest: AdapterManifest) -> None:
    try:
        config = parse_object(read_plain(path))
    except FileNotFoundError as cause:
        raise AdapterError(f"{path} is missing.", HINT) from cause
    except NotPlainError as cause:
        raise AdapterError(f"{path} {cause}.", HINT) from cause
    # "pissa" and its like change the base's weights when the adapter is made
    plain = config.get("peft_type") == "LORA" and config.get("init_lora_weights") in (True, False, "gaussian")
    extra = sorted(key for key, value in config.items() if value and key not in PLAIN_KEYS)
    if not plain or extra or config.get("bias") != "none":
        what = f"sets {', '.join(extra)[:200]}" if extra else "is no plain LoRA configuration"
        raise AdapterError(
            f"{path} {what}, which is not supported.", "Export the adapter with `finetune adapter export`."
        )
    if _stated(config) != (manifest.rank, manifest.alpha, sorted(manifest.targets)):
        raise AdapterError(f"{path} does not say the rank, alpha and targets of the manifest.", HINT)


def _stated(config: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Rank, alpha and targets, these None where they are no lists of names."""
    targets: list[str] = []
    for part in (config.get("target_modules"), config.get("target_parameters") or []):
        if not isinstance(part, list) or not all(isinstance(one, str) for one in part):
            return config.get("r"), config.get("lora_alpha"), None
        targets += part
    return config.get("r"), config.get("lora_alpha"), sorted(targets)


def _check_tensors(path: Path, manifest: AdapterManifest) -> None:
    """Names, types and ranks of the tensors, from the file's header; then each number."""
    try:
        tensors = read_header(path)
    except NotPlainError as cause:
        raise AdapterError(f"{path} {cause}.", HINT) from cause
    for tensor in tensors:
        _check_tensor(path, tensor, manifest)
    broken = broken_tensor(path, tensors)
    if broken is not None:
        raise AdapterError(f"{path}: {broken} is not finite.", HINT)


def _check_tensor(path: Path, tensor: HeaderTensor, manifest: AdapterManifest) -> None:
    found = TENSOR_NAME.fullmatch(tensor.name)
    if not found or len(tensor.shape) != 2:
        raise AdapterError(f"{path} holds {tensor.name[:120]!r}, which is no factor of a LoRA adapter.", HINT)
    rank = tensor.shape[0] if found["factor"] == "A" else tensor.shape[1]
    # of nested wrappers the inner ones lie within the outer one's base
    module = found["module"].split(".base_layer")[0].rpartition(".")[2]
    if module in manifest.targets:
        agrees = rank == manifest.rank
    else:
        # a fused tensor of a mixture has factors of that rank for each of its experts, in one
        agrees = rank > 0 and rank % manifest.rank == 0 and module in _fused(manifest.targets)
    if not agrees:
        raise AdapterError(f"{path}: {tensor.name} does not agree with the manifest's rank and targets.", HINT)


def _fused(targets: Iterable[str]) -> set[str]:
    """Modules that hold the targets which name a parameter with its module: experts of experts.down_proj."""
    return {target.rpartition(".")[0].rpartition(".")[2] for target in targets if "." in target}
