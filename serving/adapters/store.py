"""The adapters folder: which adapters may be loaded, and proof that one is whole before a byte of it is used."""

import logging
import os
from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, AdapterManifest
from finetune.contracts.adapter_files import PLAIN_NAME, check_base
from finetune.contracts.errors import AdapterError, InputError, SignatureError
from finetune.contracts.sound_adapter import AdapterLimits, check_sound
from finetune.contracts.trust import Trust, TrustFile
from finetune.contracts.withdrawal import check_not_withdrawn, read_mark
from serving.access.scopes import OPERATOR, Caller
from serving.adapters.copies import AdapterCopies
from serving.adapters.folder_groups import GroupsOfFolders
from serving.engines.base import EngineDescription
from serving.errors import AdapterConflictError, AdapterMissingError, AdapterUntrustedError, RequestError

LOGGER = logging.getLogger("serving")
LIST_HINT = "`finetune adapter list` shows what there is."


class AdapterStore:
    """root is the only folder that a request may load from; max_rank bounds what one adapter takes of the memory.

    served is where copies of what is loaded are kept, None: in `served` beside root, where a home has it. trust says
    whose adapters are taken, None: everybody's.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_rank: int,
        max_bytes: int = 8 << 30,
        served: Path | None = None,
        trust: TrustFile | None = None,
    ) -> None:
        self._root = root
        self._trust = trust
        self._told = ""
        self._limits = AdapterLimits(max_rank=max_rank, max_bytes=max_bytes)
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
            if PLAIN_NAME.fullmatch(path.name)
            and (path / ADAPTER_MANIFEST_NAME).is_file()
            and (caller.is_admin or (caller.sees(path.name) and caller.holds(self._groups.of(path))))
        )

    def check(self, folder: Path, description: EngineDescription) -> AdapterManifest:
        """The manifest, after every file, the configuration and the tensors' shapes were found to be what it says.

        Raises AdapterError for a damaged, unsupported or withdrawn adapter, AdapterUntrustedError for one that is not
        trusted, AdapterConflictError for one of another base. The messages name no folder of this machine.
        """
        try:
            manifest = check_sound(folder, self._limits)
            _check_servable(manifest)
            check_not_withdrawn(self._root, manifest)
        except AdapterError as error:
            raise without_folder(error, folder) from error
        trust = self.read_trust()
        if trust:
            check_trusted(trust, folder, manifest)
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

    def read_trust(self) -> Trust | None:
        """Whose adapters are taken as of now. Raises AdapterUntrustedError where that cannot be read: then nobody's."""
        try:
            found = self._trust.read() if self._trust else None
        except InputError as error:
            if str(error) != self._told:
                LOGGER.error("No adapter is taken: %s", error)
            self._told = str(error)
            raise AdapterUntrustedError(
                "Whose adapters this server takes cannot be read.", "Its log says what is wrong with the policy."
            ) from error
        self._told = ""
        return found

    def is_withdrawn(self, manifest: AdapterManifest) -> bool:
        """Whether the adapter was withdrawn. Raises AdapterError for a mark that cannot be read."""
        return read_mark(self._root, manifest.digests.weights) is not None


def adapter_missing(reference: str) -> AdapterMissingError:
    """The answer to a request to load what is not in the adapters folder, or not for the caller."""
    return AdapterMissingError(f"There is no adapter {reference!r} in the adapters folder.", LIST_HINT)


def check_trusted(trust: Trust, folder: Path, manifest: AdapterManifest) -> None:
    """Raise AdapterUntrustedError unless the adapter in folder, which is whole, is one to be taken."""
    try:
        trust.check(folder, manifest)
    except SignatureError as error:
        found = without_folder(error, folder)
        raise AdapterUntrustedError(found.message, found.hint) from error


def without_folder(error: AdapterError, folder: Path) -> AdapterError:
    """The same error with the path of folder's parent cut out: answers must not tell where the server keeps things."""
    message = error.message
    for parent in {folder.parent, folder.resolve().parent}:
        message = message.replace(f"{parent}/", "")
    return type(error)(message, error.hint)


def _check_servable(manifest: AdapterManifest) -> None:
    fused = [target for target in manifest.targets if "." in target]
    if fused:
        raise AdapterError(
            f"The adapter {manifest.adapter_id} reaches {', '.join(fused)}, and fused experts are not served.",
            "Train it on a preset without experts.",
        )
