"""Which base model a folder holds: its digest over configuration and weights, and whether its files are whole."""

import json
from pathlib import Path

from finetune.contracts.adapter import BaseIdentity
from finetune.contracts.bases import AGAIN, BASE_RECORD_NAME, read_base
from finetune.contracts.code_references import refuse_code
from finetune.contracts.errors import BaseModelError
from finetune.contracts.io import digest_files
from finetune.terminal.progress import byte_progress

CONFIG_NAME = "config.json"
INDEX_NAME = "model.safetensors.index.json"
TOKENIZER_NAME = "tokenizer.json"
HINT = "Copy the model folder again from where it came, with config.json, the .safetensors files and tokenizer.json."


def read_identity(folder: Path) -> BaseIdentity:
    """The identity of the base in folder, after its files were checked.

    The digest reads every byte of the weights: about a minute for 56 GB on a fast disk, each time. Raises
    BaseModelError naming the file that is missing, damaged or refers to code, or a base of the home that was altered.
    """
    _read_config(folder)
    paths = [folder / CONFIG_NAME, *weight_files(folder)]
    with byte_progress("Checking the base", sum(path.stat().st_size for path in paths)) as seen:
        digest = digest_files(paths, seen=seen)
    if (folder / BASE_RECORD_NAME).is_file() and read_base(folder).identity.digest != digest:
        raise BaseModelError(f"The base in {folder} was altered since it was brought in.", AGAIN)
    return identity_of(folder, digest)


def identity_of(folder: Path, digest: str) -> BaseIdentity:
    """The identity of the base in folder, the digest of which is known. Raises BaseModelError as read_identity does."""
    config = _read_config(folder)
    sizes = config.get("text_config") or config
    return BaseIdentity(
        name=folder.name if folder.name != "base" else folder.parent.name,
        digest=digest,
        model_type=config["model_type"],
        num_hidden_layers=sizes["num_hidden_layers"],
        hidden_size=sizes["hidden_size"],
    )


def read_model_type(folder: Path) -> str:
    """model_type of the base in folder. Raises BaseModelError for a file that is missing, damaged or refers to code."""
    return str(_read_config(folder)["model_type"])


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of folder, each opened once to prove that its header and length agree.

    Raises BaseModelError when there is none, when one named by the index is missing, or when one is cut short.
    """
    from safetensors import SafetensorError, safe_open

    present = sorted(folder.glob("*.safetensors"))
    for name in sorted(_indexed_names(folder) - {path.name for path in present}):
        raise BaseModelError(f"{folder / name} is missing, though {INDEX_NAME} names it.", HINT)
    if not present:
        raise BaseModelError(f"There are no weights in {folder}: no .safetensors file.", HINT)
    for path in present:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as cause:
            raise BaseModelError(f"{path} is damaged or cut short: {cause}.", HINT) from cause
    return present


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise BaseModelError(f"There is no base model in {folder}: {CONFIG_NAME} is missing.", HINT)
    if not (folder / TOKENIZER_NAME).is_file():
        raise BaseModelError(f"There is no tokenizer in {folder}: {TOKENIZER_NAME} is missing.", HINT)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        sizes = config.get("text_config") or config
        _ = config["model_type"], sizes["num_hidden_layers"], sizes["hidden_size"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as cause:
        raise BaseModelError(f"{path} is damaged: {cause!r}.", HINT) from cause
    refuse_code(folder, error=BaseModelError)
    return config


def _indexed_names(folder: Path) -> set[str]:
    path = folder / INDEX_NAME
    if not path.is_file():
        return set()
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as cause:
        raise BaseModelError(f"{path} is damaged: {cause!r}.", HINT) from cause
