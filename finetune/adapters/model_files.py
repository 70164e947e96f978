"""The files of a base's folder: weights to rewrite, files to take along, and what must stay behind."""

import json
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.errors import BaseModelError
from finetune.contracts.merge import MERGE_MANIFEST_NAME
from finetune.model.identity import HINT, INDEX_NAME, weight_files

# The same weights in another form, unmerged: an engine that prefers that form would serve the base
OTHER_WEIGHTS = frozenset(
    {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".ot", ".pt", ".pth", ".safetensors"}
)
SINGLE_NAME = "model.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """weights are the safetensors files that are loaded; left_out are names, a folder's with a slash behind it."""

    weights: tuple[Path, ...]
    others: tuple[Path, ...]
    left_out: tuple[str, ...]

    @property
    def num_weight_bytes(self) -> int:
        """Size of the weights."""
        return sum(path.stat().st_size for path in self.weights)

    @property
    def num_bytes(self) -> int:
        """Size of all that a merged folder holds."""
        return self.num_weight_bytes + sum(path.stat().st_size for path in self.others)


def model_files(folder: Path) -> ModelFiles:
    """Sort the files of folder. Raises BaseModelError when weights are missing, damaged, or several without index."""
    weights = _loaded(folder)
    others, left_out = [], []
    for path in sorted(folder.iterdir()):
        if path in weights or path.name == MERGE_MANIFEST_NAME:
            continue
        if path.is_file() and path.suffix.lower() not in OTHER_WEIGHTS:
            others.append(path)
        else:
            left_out.append(path.name if path.is_file() else f"{path.name}/")
    # last, so that what is cut off before it is seen not to be whole
    others.sort(key=lambda path: path.suffix == ".json")
    return ModelFiles(weights, tuple(others), tuple(left_out))


def _loaded(folder: Path) -> tuple[Path, ...]:
    present = weight_files(folder)
    index = folder / INDEX_NAME
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return tuple(path for path in present if path.name in names)
    if len(present) == 1 or folder / SINGLE_NAME in present:
        return (folder / SINGLE_NAME,) if folder / SINGLE_NAME in present else tuple(present)
    raise BaseModelError(f"{folder} holds {len(present)} .safetensors files and no {INDEX_NAME}.", HINT)
