"""Adapters as vLLM servers read them: copies under names of their content, which stay while a server may read them.

A server reads an adapter's folder again whenever it has pushed it out of its memory, and one whose folder is gone then
ends as a whole (vLLM 0.32), so it is never given a folder that anybody else may remove.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from finetune.contracts.adapter import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, AdapterManifest
from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import FILE_MODE, digest_file, digest_text, new_folder, write_bytes
from finetune.model.adapter_keys import multimodal_state, text_state
from finetune.model.identity import CONFIG_NAME, HINT
from serving.errors import AdapterConflictError

# vLLM holds each pair as one map, and cannot load one without the other
PAIRS = (("in_proj_qkv", "in_proj_z"),)
MULTIMODAL_CLASS = "ForConditionalGeneration"


class ReplicaFiles:
    """Copies in the folder root, for a base of the multimodal class or not."""

    def __init__(self, root: Path, *, multimodal: bool) -> None:
        self._root = root.resolve()
        self._multimodal = multimodal

    def write(self, source: Path, manifest: AdapterManifest) -> Path:
        """The copy of the adapter in source, made unless it is there; its folder's name is that of the content.

        Raises AdapterConflictError for an adapter that vLLM cannot load, AdapterError for tensors of other names than
        the manifest says.
        """
        _check_pairs(manifest)
        with new_folder(self._root / f".{manifest.adapter_id}") as scratch:
            self._copy(source, scratch, manifest)
            name = f"{manifest.adapter_id}.{_digest(scratch)[:12]}"
        made, folder = self._root / f".{manifest.adapter_id}", self._root / name
        if folder.is_dir():
            shutil.rmtree(made)
        else:
            made.rename(folder)
        return folder

    def remove(self, name: str) -> None:
        """Remove a copy; nothing happens when there is none."""
        shutil.rmtree(self._root / name, ignore_errors=True)

    def remove_all_but(self, names: Iterable[str]) -> None:
        """Remove what earlier processes left, but for the copies of these names."""
        kept = set(names)
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, source: Path, target: Path, manifest: AdapterManifest) -> None:
        from safetensors.torch import load_file, save_file

        state = text_state(load_file(source / ADAPTER_WEIGHTS_NAME), manifest)
        if self._multimodal:
            state = multimodal_state(state, manifest)
        weights = target / ADAPTER_WEIGHTS_NAME
        save_file(state, weights, metadata={"format": "pt"})
        weights.chmod(FILE_MODE)
        write_bytes(target / ADAPTER_CONFIG_NAME, (source / ADAPTER_CONFIG_NAME).read_bytes())


def is_multimodal(base: Path) -> bool:
    """Whether vLLM loads the base in a folder as the multimodal class. Raises BaseModelError for a damaged config."""
    try:
        names = json.loads((base / CONFIG_NAME).read_text(encoding="utf-8")).get("architectures") or ()
    except (OSError, ValueError, AttributeError) as error:
        raise BaseModelError(f"{base / CONFIG_NAME} is missing or damaged.", HINT) from error
    return any(str(name).endswith(MULTIMODAL_CLASS) for name in names)


def _check_pairs(manifest: AdapterManifest) -> None:
    for pair in PAIRS:
        found = [name for name in pair if name in manifest.targets]
        if len(found) == 1:
            (lacking,) = set(pair) - set(found)
            raise AdapterConflictError(
                f"The adapter {manifest.adapter_id} lies on {found[0]} and not on {lacking}: vLLM loads both or none.",
                "Train it with both, or with neither, among lora.targets; the engine of this project serves it.",
            )


def _digest(folder: Path) -> str:
    names = (ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME)
    return digest_text("\n".join(digest_file(folder / name) for name in names))
