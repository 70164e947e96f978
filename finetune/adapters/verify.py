"""Prove that an adapter folder is what its manifest says; with a base, that it still does what it did when exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.adapters.find import find_adapter, list_adapters
from finetune.contracts.adapter import AdapterKeys, AdapterManifest
from finetune.contracts.adapter_files import HINT, read_adapter
from finetune.contracts.errors import AdapterError
from finetune.contracts.sound_adapter import check_sound

if TYPE_CHECKING:
    from finetune.model.loading import LoadedBase

__all__ = ["check_written", "find_adapter", "list_adapters", "verify_adapter"]

# Two machines sum bfloat16 products in different orders; 0.1 nat is far above that and far below a wrong adapter.
PROBE_TOLERANCE = 0.1
# The same base in the same memory gives the same sums but for the order of a GPU's
WRITTEN_TOLERANCE = 0.01


def verify_adapter(
    folder: Path, base: Path | None, *, copies: Path | None = None, embedding_on_host: bool = False
) -> AdapterManifest:
    """Check digests, configuration and tensors of folder; with the folder of its base, its reference scores too.

    copies is where a 4-bit copy of the base may lie, None: nowhere; none is written. embedding_on_host is load_base's.
    Raises AdapterError naming the first thing that does not hold, BaseModelError for a damaged base.
    """
    manifest = check_sound(folder)
    if not manifest.adapter_id.endswith(f"-{manifest.digests.weights[:12]}"):
        raise AdapterError(
            f"{folder} is called {manifest.adapter_id}, its weights have digest {manifest.digests.weights[:12]}.", HINT
        )
    if base is not None:
        model = _attached(folder, base, manifest, copies=copies, embedding_on_host=embedding_on_host)
        check_scores(model, folder, manifest)
    return manifest


def _attached(
    folder: Path, base: Path, manifest: AdapterManifest, *, copies: Path | None, embedding_on_host: bool
) -> Any:
    """The base of the class whose names the adapter's tensors have, with the adapter over it."""
    from finetune.model.base_copy import BaseCopies
    from finetune.model.loading import load_base
    from finetune.model.lora import attach_saved
    from finetune.model.wrapper import attach_wrapped

    if manifest.keys is AdapterKeys.MULTIMODAL:
        return attach_wrapped(base, folder, manifest=manifest, name="verified")
    loaded = load_base(
        base,
        quantization=manifest.quantization,
        embedding_on_host=embedding_on_host,
        copies=BaseCopies(copies, write=False) if copies else None,
    )
    return attach_saved(loaded, folder, "verified")


def check_written(model: Any, base: "LoadedBase", folder: Path) -> None:
    """Load the adapter in folder beside the one that model has just trained, and take it off again.

    Raises AdapterError unless the files score the reference text as the trained factors did.
    """
    from finetune.model.lora import TRAINED_ADAPTER, attach_saved
    from finetune.model.probe import continuation_log_probs

    manifest, was_training = read_adapter(folder), model.training
    probe = manifest.probe
    attach_saved(base, folder, "written", onto=model)
    try:
        found = continuation_log_probs(model, probe.token_ids, probe.continuation_ids)
    finally:
        model.set_adapter(TRAINED_ADAPTER)
        model.delete_adapter("written")
        model.train(was_training)
    worst = largest_difference(found, probe.adapter_log_probs)
    if worst > WRITTEN_TOLERANCE:
        raise AdapterError(
            f"The files of {manifest.adapter_id} score the reference text {worst:.3f} nat off the adapter in memory.",
            "Report this with --debug; `--resume` exports again from the last checkpoint.",
        )


def largest_difference(left: Sequence[float], right: Sequence[float]) -> float:
    """Of two lists of one length."""
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def check_scores(model: Any, folder: Path, manifest: AdapterManifest) -> None:
    """Raise AdapterError unless the active adapter of a PeftModel, read from folder, scores as its manifest says."""
    from finetune.model.probe import continuation_log_probs

    probe = manifest.probe
    found = continuation_log_probs(model, probe.token_ids, probe.continuation_ids)
    worst = largest_difference(found, probe.adapter_log_probs)
    if worst > PROBE_TOLERANCE:
        raise AdapterError(
            f"{folder} does not score its reference text as at export: {worst:.3f} nat off.",
            "Compare `.venv/bin/pip freeze` with requirements.lock: the library versions must be those.",
        )
    with model.disable_adapter():
        without = continuation_log_probs(model, probe.token_ids, probe.continuation_ids)
    if found == without:
        raise AdapterError(f"{folder} changes nothing: the base scores its reference text the same.", "Train longer.")
