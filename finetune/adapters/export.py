"""Write a trained adapter to a folder that says itself what it is, and publish it in the home."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.adapters.bom import BOM_NAME, UNKNOWN, Materials, bom_document
from finetune.adapters.find import find_adapter
from finetune.adapters.verify import check_written
from finetune.contracts.adapter import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_WEIGHTS_NAME,
    AdapterDigests,
    AdapterManifest,
    ReferenceProbe,
)
from finetune.contracts.adapter_files import list_files, read_adapter, write_manifest
from finetune.contracts.errors import AdapterError, UsageError
from finetune.contracts.io import FILE_MODE, digest_file, new_folder, write_json
from finetune.contracts.run import Home
from finetune.families.base import Piece, encode_pieces
from finetune.model.loading import LoadedBase
from finetune.model.lora import TRAINED_ADAPTER, layer_kinds
from finetune.model.probe import continuation_log_probs
from finetune.recipe.resolve import ResolvedLora

# Written for this purpose: text of the user's repositories must not travel in a manifest. The one that the adapter
# changes most becomes the reference.
PROBES = (
    ("def load_settings(path):\n    with open(path) as file:\n", "        return json.load(file)\n"),
    ("import os\nimport sys\n\n\ndef main(argv=None):\n", "    parser = argparse.ArgumentParser()\n"),
    ("class Queue:\n    def __init__(self):\n", "        self.items = []\n\n    def push(self, item):\n"),
    ("def test_empty():\n", "    with pytest.raises(ValueError):\n        parse('')\n"),
)


@dataclass(frozen=True)
class AdapterOrigin:
    """What the exported adapter says of where it came from. dataset and recipe are digests, step is of training."""

    name: str
    run_id: str
    dataset: str
    recipe: str
    step: int | None = None
    visibility: tuple[str, ...] = ()
    materials: Materials = UNKNOWN


def write_adapter(
    model: Any, base: LoadedBase, section: ResolvedLora, *, origin: AdapterOrigin, folder: Path
) -> AdapterManifest:
    """Export the trained adapter of a PeftModel to folder, replacing it whole or not at all.

    The files are read back and scored before they have their name. Raises AdapterError when they do not score as the
    adapter in memory, or when a weight is not finite: such an adapter is of no use to anybody.
    """
    state = adapter_state(model)
    with new_folder(folder) as scratch:
        write_weights(scratch, state)
        write_json(scratch / ADAPTER_CONFIG_NAME, adapter_config(model))
        weights = digest_file(scratch / ADAPTER_WEIGHTS_NAME)
        manifest = AdapterManifest(
            adapter_id=f"{origin.name}-{weights[:12]}",
            run_id=origin.run_id,
            step=origin.step,
            created_at=int(time.time()),
            base=base.identity,
            family=base.family.facts(),
            rank=section.rank,
            alpha=section.alpha,
            targets=section.targets,
            layer_kinds=layer_kinds(base, section.targets)[0],
            quantization=base.quantization,
            digests=AdapterDigests(
                weights=weights,
                chat_template=base.chat_template_digest,
                tokenizer=base.tokenizer_digest,
                dataset=origin.dataset,
                recipe=origin.recipe,
            ),
            probe=reference_probe(model, base),
            files=(),
            visibility=origin.visibility,
        )
        write_json(scratch / BOM_NAME, bom_document(manifest, origin.materials))
        manifest = write_manifest(scratch, manifest.model_copy(update={"files": list_files(scratch)}))
        check_written(model, base, scratch)
    return manifest


def write_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write the tensors of an adapter, readable by whoever serves it: the library makes private files."""
    from safetensors.torch import save_file

    path = folder / ADAPTER_WEIGHTS_NAME
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(FILE_MODE)


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """The factors of the trained adapter by PEFT's names, float32 on the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=TRAINED_ADAPTER, save_embedding_layers=False)
    broken = sorted(name for name, tensor in state.items() if not torch.isfinite(tensor).all())
    if broken:
        raise AdapterError(
            f"The trained weights are not finite, the first is {broken[0]}.",
            "Train again with a lower train.learning_rate; `--resume` goes on from an earlier checkpoint.",
        )
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in sorted(state.items())}


def adapter_config(model: Any) -> dict[str, Any]:
    """PEFT's configuration as it stands in adapter_config.json: sets sorted, no path of this machine."""
    values = json.loads(json.dumps(model.peft_config[TRAINED_ADAPTER].to_dict(), default=_plain))
    for key, value in values.items():
        if isinstance(value, str) and Path(value).is_absolute():
            raise AdapterError(f"adapter_config.json would name the path {value} under {key}.", "Report this.")
    return {**values, "inference_mode": True}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def reference_probe(model: Any, base: LoadedBase) -> ReferenceProbe:
    """The probe text whose scores differ most between base and adapter, with both scores."""
    return max((_probe(model, base, pair) for pair in PROBES), key=probe_difference)


def probe_difference(probe: ReferenceProbe) -> float:
    """The largest difference of a token's log-probability between base and adapter, in nats."""
    return max(abs(a - b) for a, b in zip(probe.base_log_probs, probe.adapter_log_probs, strict=True))


def _probe(model: Any, base: LoadedBase, pair: Sequence[str]) -> ReferenceProbe:
    prompt, continuation = (encode_pieces(base.tokenizer, [Piece(text)]) for text in pair)
    with model.disable_adapter():
        before = continuation_log_probs(model, prompt, continuation)
    return ReferenceProbe(
        token_ids=tuple(prompt),
        continuation_ids=tuple(continuation),
        base_log_probs=before,
        adapter_log_probs=continuation_log_probs(model, prompt, continuation),
    )


def publish_adapter(folder: Path, home: Home) -> Path:
    """Copy a verified adapter folder to home.adapters/<adapter_id>, once more if it is there; returns that."""
    target = home.adapters / read_adapter(folder).adapter_id
    _copy(folder, target)
    return target


def copy_adapter(source: Path, out: Path) -> AdapterManifest:
    """Copy a verified adapter folder, whole or not at all, to out, which must be new, empty, or the same adapter.

    Raises UsageError when out holds anything else.
    """
    manifest = read_adapter(source)
    if out.resolve() == source.resolve():
        return manifest
    check_place(out, manifest)
    _copy(source, out)
    return manifest


def check_place(out: Path, manifest: AdapterManifest) -> None:
    """Raise UsageError unless out is new, empty, or holds this very adapter."""
    if out.exists() and not _same_adapter(out, manifest):
        raise UsageError(f"{out} exists and holds something else.", "Name a new folder with --out.")


def export_adapter(home: Home, name: str, *, out: Path | None = None) -> AdapterManifest:
    """copy_adapter of the adapter given by id, name, run or path; out None: back to its place in the home."""
    source = find_adapter(home, name)
    return copy_adapter(source, out if out is not None else home.adapters / read_adapter(source).adapter_id)


def _copy(source: Path, target: Path) -> None:
    with new_folder(target) as scratch:
        for path in sorted(source.iterdir()):
            shutil.copyfile(path, scratch / path.name)
            (scratch / path.name).chmod(FILE_MODE)
        read_adapter(scratch)


def _same_adapter(out: Path, manifest: AdapterManifest) -> bool:
    if not out.is_dir():
        return False
    if not any(out.iterdir()):
        return True
    try:
        return read_adapter(out).adapter_id == manifest.adapter_id
    except AdapterError:
        return False
