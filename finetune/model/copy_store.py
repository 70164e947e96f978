"""The 4-bit copies of bases in a home: whole or not there, each byte checked before it is used.

A copy is a folder <base digest>-<settings digest>, written aside and renamed.
"""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from finetune.contracts.adapter import BaseIdentity, FileDigest
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import digest_file, digest_json, disk_errors, new_folder, read_model, sole_writer, write_json
from finetune.model.quiet import quiet_libraries
from finetune.terminal.output import note
from finetune.terminal.progress import byte_progress

MANIFEST_NAME = "copy.json"
# what is written at once, and lies in host memory a second time meanwhile
SHARD_SIZE = "4GB"
# left on the disk beside a copy: a run's checkpoints and adapters need room too
SPARE_BYTES = 4 << 30
LIBRARIES = ("bitsandbytes", "safetensors", "torch", "transformers")
HINT = "The base itself is read instead."


class CopySettings(Contract):
    """What the bytes of a copy depend on, beside the base. scheme says how weights are quantised.

    device is "cpu" or "cuda": scales of scales are summed in another order there.
    """

    scheme: str
    keep_16bit: tuple[str, ...]
    experts: tuple[str, ...]
    device: str
    libraries: tuple[str, ...]


class CopyManifest(Contract):
    """What a copy holds; files are all of it but the manifest itself."""

    schema_version: Literal[1] = 1
    base: BaseIdentity
    settings: CopySettings
    files: tuple[FileDigest, ...]


def copy_settings(scheme: str, keep_16bit: tuple[str, ...], experts: tuple[str, ...], *, device: str) -> CopySettings:
    """The settings of a copy that the installed libraries write."""
    libraries = tuple(f"{name} {version(name)}" for name in LIBRARIES)
    return CopySettings(scheme=scheme, keep_16bit=keep_16bit, experts=experts, device=device, libraries=libraries)


class CopyStore:
    """The copies under one folder that were made by the same settings."""

    def __init__(self, root: Path, settings: CopySettings) -> None:
        self.root = root
        self.settings = settings

    def folder(self, identity: BaseIdentity) -> Path:
        """Where the copy of a base lies, or would."""
        return self.root / f"{identity.digest[:16]}-{digest_json(self.settings)[:16]}"

    def whole(self, identity: BaseIdentity) -> Path | None:
        """The folder of the copy, each file of which was read and has the digest that the manifest names.

        None where there is none, or, with a note that names the file, a damaged one.
        """
        folder = self.folder(identity)
        if not folder.is_dir():
            return None
        try:
            _check_files(folder, self._manifest(folder, identity))
        except InputError as error:
            note(str(error))
            return None
        except OSError as error:
            note(f"{folder} cannot be read: {error}. {HINT}")
            return None
        return folder

    def write(self, identity: BaseIdentity, model: Any) -> None:
        """Write the copy of a model that has just been quantised; a note where that cannot be."""
        from safetensors import SafetensorError

        folder = self.folder(identity)
        busy = MachineError(f"another process writes {folder}.", "It will be there at the next start.")
        try:
            with disk_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                with sole_writer(self.root / f"{folder.name}.lock", busy):
                    self._clear_scratch(folder)
                    self._write(folder, identity, model)
        except MachineError as error:
            note(f"No 4-bit copy of the base was written: {error}")
        except (OSError, SafetensorError) as error:
            note(f"No 4-bit copy of the base was written to {folder}: {error}.")

    def _write(self, folder: Path, identity: BaseIdentity, model: Any) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        free = shutil.disk_usage(self.root).free
        if free < size + SPARE_BYTES:
            raise MachineError(
                f"it takes {size / 1e9:,.1f} GB, {SPARE_BYTES / 1e9:,.1f} more must stay free, and the disk of"
                f" {self.root} has {free / 1e9:,.1f}.",
                "Free some, or set base.cache=false.",
            )
        note(f"Writing a 4-bit copy of the base, {size / 1e9:,.1f} GB, to {folder}: later starts read that.")
        with new_folder(folder) as scratch:
            with quiet_libraries():
                # as the model has them: families with experts are read in another form than they are held in
                model.save_pretrained(scratch, max_shard_size=SHARD_SIZE, save_original_format=False)
            paths = sorted(scratch.iterdir())
            with byte_progress("Checking what was written", _total(paths)) as seen:
                files = tuple(
                    FileDigest(name=path.name, bytes=path.stat().st_size, sha256=digest_file(path, seen=seen))
                    for path in paths
                )
            write_json(scratch / MANIFEST_NAME, CopyManifest(base=identity, settings=self.settings, files=files))
        self._tell_of_others(folder, identity)

    def _manifest(self, folder: Path, identity: BaseIdentity) -> CopyManifest:
        manifest = read_model(folder / MANIFEST_NAME, CopyManifest, error=InputError, hint=HINT)
        if manifest.base.digest != identity.digest or manifest.settings != self.settings:
            raise InputError(f"{folder / MANIFEST_NAME} is that of another base or of other settings.", HINT)
        return manifest

    def _clear_scratch(self, folder: Path) -> None:
        """Delete what a killed process had begun to write, or to replace."""
        for scratch in self.root.glob(f".{folder.name}.*"):
            shutil.rmtree(scratch, ignore_errors=True)

    def _tell_of_others(self, folder: Path, identity: BaseIdentity) -> None:
        others = [path for path in self.root.glob(f"{identity.digest[:16]}-*/") if path != folder and path.is_dir()]
        for path in others:
            size = _total(list(path.iterdir())) / 1e9
            note(f"{path}, {size:,.1f} GB, is a copy by other settings or libraries; delete it if you like.")


def _check_files(folder: Path, manifest: CopyManifest) -> None:
    for entry in manifest.files:
        path = folder / entry.name
        if not path.is_file():
            raise InputError(f"{path} is missing.", HINT)
        if path.stat().st_size != entry.bytes:
            raise InputError(f"{path} was cut short or altered.", HINT)
    extra = {path.name for path in folder.iterdir()} - {entry.name for entry in manifest.files} - {MANIFEST_NAME}
    if extra:
        raise InputError(f"{folder / min(extra)} does not belong there.", HINT)
    with byte_progress("Checking the 4-bit copy of the base", sum(entry.bytes for entry in manifest.files)) as seen:
        for entry in manifest.files:
            if digest_file(folder / entry.name, seen=seen) != entry.sha256:
                raise InputError(f"{folder / entry.name} was altered.", HINT)


def _total(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
