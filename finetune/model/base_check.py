"""Whether a folder holds a base model and nothing that would run: what `finetune base add` takes and refuses."""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from finetune.contracts.errors import BaseModelError
from finetune.families.registry import family_for
from finetune.model.identity import INDEX_NAME, read_model_type, weight_files

TAKEN = (
    "*.safetensors",
    INDEX_NAME,
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "LICEN[CS]E*",
    "NOTICE*",
    "README.md",
)
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"})
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})
LARGEST_CONFIG = 4 << 20


def check_base_folder(folder: Path) -> tuple[str, ...]:
    """The names of the files that make up the base in folder; others that do no harm are left out.

    Raises BaseModelError for pickled weights, code, links, a configuration that names code, an unknown model type, and
    weights that are missing, cut short, or named by the index outside the folder.
    """
    if not folder.is_dir():
        raise BaseModelError(f"{folder} is no folder.", "Name the folder of a downloaded model.")
    for path in sorted(folder.rglob("*")):
        _refuse_unsafe(path)
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_file() and _is_taken(path.name)))
    for name in names:
        _refuse_huge(folder / name)
    _check_index(folder / INDEX_NAME)
    family_for(read_model_type(folder))
    weight_files(folder)
    return names


def _is_taken(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in TAKEN)


def _refuse_unsafe(path: Path) -> None:
    if path.is_symlink():
        raise BaseModelError(f"{path} is a link.", "Copy the folder with its contents first: cp -rL FOLDER COPY")
    if not path.is_dir() and not path.is_file():
        raise BaseModelError(f"{path} is no plain file.", "Take it out of the folder.")
    if path.suffix.lower() in PICKLES and path.is_file():
        raise BaseModelError(
            f"{path} may be a pickle, which runs code when it is loaded.",
            "Take it out of the folder: of weights, the .safetensors files are all that is needed.",
        )
    if path.suffix.lower() in CODE and path.is_file():
        raise BaseModelError(
            f"{path} is code, and a base must be data alone.",
            "Take it out of the folder. A base that needs code of its own is not supported.",
        )


def _refuse_huge(path: Path) -> None:
    limit = 16 * LARGEST_CONFIG if path.name == INDEX_NAME else LARGEST_CONFIG
    if path.name.endswith(("config.json", ".index.json")) and path.stat().st_size > limit:
        raise BaseModelError(f"{path} is larger than any configuration.", "Copy it again from where it came.")


def _check_index(path: Path) -> None:
    """Raise BaseModelError where the index names a file outside its folder: loaders follow it."""
    if not path.is_file():
        return
    document = _read_json(path)
    named = document.get("weight_map") if isinstance(document, dict) else None
    for name in named.values() if isinstance(named, dict) else [None]:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BaseModelError(
                f"{path} names {name!r}, which is no .safetensors file beside it.",
                "Copy the model folder again from where it came.",
            )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise BaseModelError(f"{path} is damaged: {cause}.", "Copy it again from where it came.") from cause
