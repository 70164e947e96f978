"""Whether a merged model does what base and adapter do together, from the files that were written."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune.adapters.verify import PROBE_TOLERANCE
from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.adapter_files import check_files
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model
from finetune.contracts.merge import (
    MERGE_MANIFEST_NAME,
    HeldoutSample,
    MergeCandidate,
    MergeCheck,
    MergeForm,
    MergeManifest,
)
from finetune.contracts.seal import check_seal
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach_saved, detach
from finetune.model.probe import continuation_log_probs
from finetune.model.room import device_with_room

MERGE_HINT = "Copy the whole folder again from where it was merged, or merge again: `finetune adapter merge`."


@dataclass(frozen=True, slots=True)
class Judge:
    """How to choose between the forms: score gives the held-out bits per byte of a loaded model on sample."""

    sample: HeldoutSample
    score: Callable[[LoadedBase], float]


@dataclass(frozen=True, slots=True)
class Expected:
    """Log-probabilities of the adapter's reference text that a form must give, and those without the adapter."""

    log_probs: tuple[float, ...]
    without: tuple[float, ...]

    @property
    def effect(self) -> float:
        """How far the adapter moves them at most, in nats."""
        return max(abs(a - b) for a, b in zip(self.log_probs, self.without, strict=True))


def expected_scores(folder: Path, base: Path, manifest: AdapterManifest, *, form: MergeForm, device: str) -> Expected:
    """The trainer's own scores, where training saw the base of this form, else those of base and adapter, loaded."""
    probe = manifest.probe
    if (form is MergeForm.NF4) == (manifest.quantization is Quantization.NF4):
        return Expected(probe.adapter_log_probs, probe.base_log_probs)
    with _loaded(base, device) as loaded:
        without = continuation_log_probs(loaded.model, probe.token_ids, probe.continuation_ids)
        model = attach_saved(loaded, folder, "merged")
        log_probs = continuation_log_probs(model, probe.token_ids, probe.continuation_ids)
        detach(model, "merged")
    return Expected(log_probs, without)


def read_back(
    folder: Path, form: MergeForm, manifest: AdapterManifest, *, expected: Expected, device: str, judge: Judge | None
) -> MergeCandidate:
    """Load the merged model in folder and score it. Raises AdapterError when it does not do what is expected."""
    probe = manifest.probe
    with _loaded(folder, device) as loaded:
        found = continuation_log_probs(loaded.model, probe.token_ids, probe.continuation_ids)
        bits = judge.score(loaded) if judge else None
    check = MergeCheck(
        token_ids=probe.token_ids,
        continuation_ids=probe.continuation_ids,
        expected=expected.log_probs,
        found=found,
        tolerance=PROBE_TOLERANCE,
        effect=expected.effect,
    )
    require(check, folder)
    if found == expected.without:
        raise AdapterError(
            f"The merged model in {folder} scores its reference text as the base does: what the adapter adds was lost.",
            "If 16 bits are too coarse for so small an adapter, serve it as it is or train longer; else report this.",
        )
    return MergeCandidate(form=form, bits_per_byte=bits, check=check)


def require(check: MergeCheck, folder: Path) -> None:
    """Raise AdapterError unless the scores that were found are those that were expected."""
    if check.worst > check.tolerance:
        raise AdapterError(
            f"The merged model in {folder} is {check.worst:.3f} nat off the adapter on its reference text, more than "
            f"{check.tolerance} nat.",
            "Compare `.venv/bin/pip freeze` with requirements.lock: the library versions must be those.",
        )


@contextmanager
def _loaded(folder: Path, device: str) -> Iterator[LoadedBase]:
    """The model in 16 bits for the length of the block: two do not fit into the memory at once."""
    loaded = load_base(folder, quantization=Quantization.NONE, device=device)
    try:
        yield loaded
    finally:
        loaded.model.to("meta")
        gc.collect()
        _free_cache(device)


def _free_cache(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()


def verify_merged(folder: Path) -> tuple[MergeManifest, MergeCheck | None]:
    """Check a merged model's files against its manifest, then load it and score its reference text again.

    The second is None where the merge could not tell what to expect, or where this machine has no room. Raises
    AdapterError naming the first thing that does not hold.
    """
    manifest = read_model(folder / MERGE_MANIFEST_NAME, MergeManifest, error=AdapterError, hint=MERGE_HINT)
    check_seal(manifest, folder / MERGE_MANIFEST_NAME, error=AdapterError, hint=MERGE_HINT)
    check_files(folder, manifest.files, what="the merged model", apart=(MERGE_MANIFEST_NAME,), hint=MERGE_HINT)
    then = manifest.chosen.check
    device = device_with_room(sum(entry.bytes for entry in manifest.files))
    if then is None or device is None:
        return manifest, None
    with _loaded(folder, device) as loaded:
        found = continuation_log_probs(loaded.model, then.token_ids, then.continuation_ids)
    now = then.model_copy(update={"found": found})
    require(now, folder)
    return manifest, now
