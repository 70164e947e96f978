"""The adapters folder: which adapters may be loaded, and proof that one is whole before a byte of it is used."""

import json
import os
import re
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_MANIFEST_NAME,
    ADAPTER_WEIGHTS_NAME,
    AdapterManifest,
)
from finetune.contracts.adapter_files import HINT, check_base, read_adapter
from finetune.contracts.errors import AdapterError
from finetune.contracts.withdrawal import check_not_withdrawn, read_mark
from serving.access.scopes import OPERATOR, Caller
from serving.adapters.copies import AdapterCopies
from serving.adapters.folder_groups import GroupsOfFolders
from serving.engines.base import EngineDescription
from serving.errors import AdapterConflictError, AdapterMissingError, RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
LIST_HINT = "`finetune adapter list` shows what there is."
# Pickled files run code when they are opened, so nothing but these may lie in an adapter's folder.
ALLOWED_SUFFIXES = frozenset({".json", ".safetensors", ".md"})
# What a LoRA configuration of this project may set; whatever else is set asks for more than two factors per module.
PLAIN_KEYS = frozenset(
    {
        "base_model_name_or_path", "bias", "inference_mode", "init_lora_weights", "lora_alpha", "lora_dropout",
        "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision", "target_modules",
        "task_type", "use_rslora",
    }
)  # fmt: skip
MAX_HEADER_BYTES = 16 << 20
FLOAT_TYPES = frozenset({"F32", "BF16", "F16"})
TENSOR_NAME = re.compile(r"base_model\.model\.[\w.]+\.(?P<module>\w+)\.lora_(?P<factor>[AB])\.weight", re.ASCII)


class AdapterStore:
    """root is the only folder that a request may load from; max_rank bounds what one adapter takes of the memory.

    served is where copies of what is loaded are kept, None: in `served` beside root, where a home has it.
    """

    def __init__(self, root: Path, *, max_rank: int, max_bytes: int = 8 << 30, served: Path | None = None) -> None:
        self._root = root
        self._max_rank = max_rank
        self._max_bytes = max_bytes
        self.copies = AdapterCopies(served or root.parent / "served")
        self._groups = GroupsOfFolders()

    def find(self, reference: str, caller: Caller = OPERATOR) -> Path:
        """The folder of an adapter id, or of a path inside root.

        One that the caller does not see is as none. A caller who does not see all names gives its id: a path could lead
        anywhere in the folder. Raises RequestError for a path outside root, whether it exists or not,
        AdapterMissingError when there is none.
        """
        if caller.is_admin:
            return self._resolved(reference)
        # all are looked at, whatever is asked for: what is hidden takes as long as what is not there
        seen = self.available(caller)
        folder = self._resolved(reference) if caller.sees_all or reference in seen else None
        if folder is None or folder not in {(self._root / name).resolve() for name in seen}:
            raise adapter_missing(reference)
        return folder

    def _resolved(self, reference: str) -> Path:
        root = self._root.resolve()
        try:
            folder = (root / reference).resolve()
        except (OSError, ValueError, RuntimeError):
            folder = root
        if folder == root or not folder.is_relative_to(root):
            raise RequestError(
                "lora_path must be an adapter's id, or a path inside the server's adapters folder.",
                LIST_HINT,
                param="lora_path",
                code="adapter_path_outside",
            )
        if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
            raise adapter_missing(reference)
        return folder

    def available(self, caller: Caller = OPERATOR) -> list[str]:
        """Ids of what the caller may load: folders of root that hold a manifest. They are not checked here."""
        if not self._root.is_dir():
            return []
        return sorted(
            path.name
            for path in self._root.iterdir()
            if NAME.fullmatch(path.name)
            and (path / ADAPTER_MANIFEST_NAME).is_file()
            and (caller.is_admin or (caller.sees(path.name) and caller.holds(self._groups.of(path))))
        )

    def check(self, folder: Path, description: EngineDescription) -> AdapterManifest:
        """The manifest, after every file, the configuration and the tensors' shapes were found to be what it says.

        Raises AdapterError for a damaged, unsupported or withdrawn adapter, AdapterConflictError for one of another
        base. The messages name no folder of this machine.
        """
        try:
            _check_entries(folder, max_bytes=self._max_bytes)
            manifest = read_adapter(folder)
            self._check_rank(manifest)
            _check_config(folder / ADAPTER_CONFIG_NAME, manifest)
            _check_tensors(folder / ADAPTER_WEIGHTS_NAME, manifest)
            check_not_withdrawn(self._root, manifest)
        except AdapterError as error:
            raise without_folder(error, folder) from error
        except OSError as error:
            raise AdapterError(f"{folder.name} cannot be read: {error.strerror}.", HINT) from error
        try:
            check_base(
                manifest,
                description.identity,
                chat_template=description.chat_template_digest,
                tokenizer=description.tokenizer_digest,
            )
        except AdapterError as error:
            raise AdapterConflictError(error.message, error.hint) from error
        return manifest

    def check_not_withdrawn(self, manifest: AdapterManifest) -> None:
        """Raise AdapterError when the adapter was withdrawn since it was loaded."""
        check_not_withdrawn(self._root, manifest)

    def is_withdrawn(self, manifest: AdapterManifest) -> bool:
        """Whether the adapter was withdrawn. Raises AdapterError for a mark that cannot be read."""
        return read_mark(self._root, manifest.digests.weights) is not None

    def _check_rank(self, manifest: AdapterManifest) -> None:
        if manifest.rank > self._max_rank:
            raise AdapterError(
                f"The adapter {manifest.adapter_id} has rank {manifest.rank}, this server takes {self._max_rank}.",
                "Start the server with a higher limit, or train with a lower lora.rank.",
            )


def adapter_missing(reference: str) -> AdapterMissingError:
    """The answer to a request to load what is not in the adapters folder, or not for the caller."""
    return AdapterMissingError(f"There is no adapter {reference!r} in the adapters folder.", LIST_HINT)


def without_folder(error: AdapterError, folder: Path) -> AdapterError:
    """The same error with the path of folder's parent cut out: answers must not tell where the server keeps things."""
    message = error.message
    for parent in {folder.parent, folder.resolve().parent}:
        message = message.replace(f"{parent}/", "")
    return type(error)(message, error.hint)


def _check_entries(folder: Path, *, max_bytes: int) -> None:
    num_bytes = 0
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file() or path.suffix not in ALLOWED_SUFFIXES:
            raise AdapterError(
                f"{path} may not lie in an adapter: plain {', '.join(sorted(ALLOWED_SUFFIXES))} files only.", HINT
            )
        num_bytes += path.stat().st_size
    if num_bytes > max_bytes:
        raise AdapterError(
            f"{folder} has {num_bytes} bytes, this server takes adapters of {max_bytes} at most.",
            "Train with a lower lora.rank or fewer targets.",
        )


def _check_config(path: Path, manifest: AdapterManifest) -> None:
    config = _read_json(path.read_bytes() if path.is_file() else b"", path)
    # "pissa" and its like change the base's weights when the adapter is made
    plain = config.get("peft_type") == "LORA" and config.get("init_lora_weights") in (True, False, "gaussian")
    extra = sorted(key for key, value in config.items() if value and key not in PLAIN_KEYS)
    if not plain or extra or config.get("bias") != "none":
        what = f"sets {', '.join(extra)}" if extra else "is no plain LoRA configuration"
        raise AdapterError(
            f"{path} {what}, which is not supported.", "Export the adapter with `finetune adapter export`."
        )
    targets = config.get("target_modules")
    stated = (config.get("r"), config.get("lora_alpha"), sorted(targets) if isinstance(targets, list) else targets)
    if stated != (manifest.rank, manifest.alpha, sorted(manifest.targets)):
        raise AdapterError(f"{path} does not say the rank, alpha and targets of the manifest.", HINT)


def _check_tensors(path: Path, manifest: AdapterManifest) -> None:
    """Names, types and ranks of the tensors, from the file's header alone."""
    expected = next((entry.sha256 for entry in manifest.files if entry.name == path.name), None)
    if expected is None or expected != manifest.digests.weights:
        raise AdapterError(f"{path} is not the file whose digest the manifest names as the weights.", HINT)
    header = _read_header(path)
    header.pop("__metadata__", None)
    for name, entry in header.items():
        found = TENSOR_NAME.fullmatch(name)
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not found or not isinstance(shape, list) or len(shape) != 2 or entry.get("dtype") not in FLOAT_TYPES:
            raise AdapterError(f"{path} holds {name[:120]!r}, which is no factor of a LoRA adapter.", HINT)
        rank = shape[0] if found["factor"] == "A" else shape[1]
        if rank != manifest.rank or found["module"] not in manifest.targets:
            raise AdapterError(f"{path}: {name} does not agree with the manifest's rank and targets.", HINT)


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if not 0 < size <= MAX_HEADER_BYTES:
            raise AdapterError(f"{path} is no safetensors file.", HINT)
        return _read_json(stream.read(size), path)


def _read_json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AdapterError(f"{path} is missing or holds no JSON object where one belongs.", HINT)
    return document
