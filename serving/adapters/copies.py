"""Copies of what is served, in folders named for their content: what was checked is what is loaded, and it stays there.

A server has a lock on each copy that it uses, which the system lets go of when its process ends, however it ends. A
copy that nobody has a lock on and that no state of the home names is garbage, also one that a kill left half written.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.contracts.adapter import (
    ADAPTER_MANIFEST_NAME,
    ADAPTER_SIGNATURE_NAME,
    AdapterManifest,
    FileDigest,
)
from finetune.contracts.adapter_files import HINT, read_manifest
from finetune.contracts.errors import AdapterError, PlatformError
from finetune.contracts.io import CHUNK_BYTES, digest_bytes, digest_json, digest_text, disk_errors, sync_folder
from finetune.contracts.plain_files import NotPlainError, read_plain
from finetune.contracts.signature import MAX_SIGNATURE_BYTES
from serving.adapters.desired import read_states

LOGGER = logging.getLogger("serving")
STORE_NAME = "store"
LOCK_NAME = ".lock"
READ_ONLY_FILE, READ_ONLY_FOLDER, FOLDER = 0o444, 0o555, 0o755
Check = Callable[[Path], AdapterManifest]


class Copy:
    """A copy that stays until release. folder holds the adapter's files and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def release(self) -> None:
        """Use it no more; calling it again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class AdapterCopies:
    """served is the folder of a home that holds the states of its servers; the copies lie beside them.

    Methods block, and may be called on any thread and in any number of processes at once.
    """

    def __init__(self, served: Path) -> None:
        self._states = served
        self._root = served / STORE_NAME

    def take(self, folder: Path, manifest: AdapterManifest, *, check: Check) -> Copy:
        """The copy of the adapter in folder, made if there is none; check returns its manifest, or raises AdapterError.

        check sees the files that will be loaded. A copy that fails it is made anew. Raises AdapterError when folder no
        longer holds what manifest says, MachineError when the disk refuses.
        """
        target = self._root / _name(folder, manifest)
        with disk_errors(self._root):
            found = self._found(target)
            if found and folder.resolve() != target.resolve():
                try:
                    check(target)
                except AdapterError:
                    self._drop(found)
                    found = None
            return found or self._made(folder, manifest, target=target, check=check)

    def sweep(self, is_withdrawn: Callable[[AdapterManifest], bool]) -> None:
        """Remove what no server uses and no state names, and unused copies of what is_withdrawn.

        A state that cannot be read might name any of them: then nothing is removed. That, and what the disk refuses,
        is said in the log alone: garbage harms nobody.
        """
        try:
            if self._root.is_dir():
                self._sweep(is_withdrawn)
        except (PlatformError, OSError) as error:
            LOGGER.warning("copies of adapters that nobody needs were not removed: %s", error)

    def _sweep(self, is_withdrawn: Callable[[AdapterManifest], bool]) -> None:
        with self._alone():
            # in this order: who gave a copy back wrote the state before
            unused = [(path, handle) for path in self._root.iterdir() if (handle := _sole_lock(path)) is not None]
            try:
                wanted = {Path(version.folder).name for version in read_states(self._states)}
                for path, _ in unused:
                    if path.name not in wanted or _is_withdrawn(path, is_withdrawn):
                        _remove(path)
            finally:
                for _, handle in unused:
                    os.close(handle)

    def _found(self, target: Path) -> Copy | None:
        with self._alone():
            return Copy(target) if target.is_dir() else None

    def _made(self, folder: Path, manifest: AdapterManifest, *, target: Path, check: Check) -> Copy:
        with self._alone():
            copy = Copy(Path(tempfile.mkdtemp(dir=self._root, prefix=".new-")))
        scratch = copy.folder
        try:
            _fill(scratch, folder, manifest)
            _check(scratch, folder, manifest=manifest, check=check)
            with self._alone():
                if target.is_dir():
                    # another server was faster
                    ready = Copy(target)
                    copy.release()
                    _remove(scratch)
                    return ready
                scratch.chmod(READ_ONLY_FOLDER)
                os.rename(scratch, target)
                sync_folder(self._root)
        except BaseException:
            copy.release()
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        copy.folder = target
        return copy

    def _drop(self, damaged: Copy) -> None:
        """Remove a copy that is not what its name says. Raises AdapterError while another server uses it."""
        with self._alone():
            damaged.release()
            handle = _sole_lock(damaged.folder)
            if handle is None:
                raise AdapterError(
                    f"The copy {damaged.folder.name} is damaged, and another server of this home uses it.",
                    "Unload the adapter there, then load it again.",
                )
            try:
                _remove(damaged.folder)
            finally:
                os.close(handle)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else looks for, publishes or removes copies while the block runs."""
        self._root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._root / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _sole_lock(path: Path) -> int | None:
    """A handle with the only lock on a folder; None for one that is in use, and for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _is_withdrawn(folder: Path, is_withdrawn: Callable[[AdapterManifest], bool]) -> bool:
    try:
        return is_withdrawn(read_manifest(folder))
    except AdapterError:
        # damaged: whoever is to serve it says so
        return False


def _remove(folder: Path) -> None:
    """Take a folder away; a kill half way leaves none under its name."""
    gone = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".gone-"))
    os.rename(folder, gone)
    gone.chmod(FOLDER)
    shutil.rmtree(gone)


def _name(folder: Path, manifest: AdapterManifest) -> str:
    """Of the copy. The same adapter with another signature is another copy: who signed it may be revoked since."""
    signature = _signature(folder)
    return digest_json(manifest) if signature is None else digest_text(digest_json(manifest) + digest_bytes(signature))


def _signature(folder: Path) -> bytes | None:
    try:
        return read_plain(folder / ADAPTER_SIGNATURE_NAME, max_bytes=MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except NotPlainError as error:
        raise AdapterError(f"{folder.name}/{ADAPTER_SIGNATURE_NAME} {error}.", HINT) from error


def _manifest(folder: Path) -> bytes:
    try:
        return read_plain(folder / ADAPTER_MANIFEST_NAME)
    except (OSError, NotPlainError) as error:
        raise AdapterError(f"{folder.name} was changed while it was copied.", HINT) from error


def _fill(scratch: Path, folder: Path, manifest: AdapterManifest) -> None:
    # not written anew from the model: a seal is of the file as it was written
    (scratch / ADAPTER_MANIFEST_NAME).write_bytes(_manifest(folder))
    signature = _signature(folder)
    if signature is not None:
        (scratch / ADAPTER_SIGNATURE_NAME).write_bytes(signature)
    for entry in manifest.files:
        _copy_file(folder / entry.name, scratch / entry.name, entry)
    for path in (*scratch.iterdir(), scratch):
        if path != scratch:
            path.chmod(READ_ONLY_FILE)
        sync_folder(path)


def _copy_file(source: Path, target: Path, entry: FileDigest) -> None:
    """Copy as many bytes as the manifest announces, and no link or pipe that came in since the folder was checked."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _changed(source, entry) from error
    with os.fdopen(handle, "rb") as stream, target.open("xb") as out:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.bytes:
            raise _changed(source, entry)
        left = entry.bytes
        while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
            out.write(chunk)
            left -= len(chunk)


def _check(scratch: Path, folder: Path, *, manifest: AdapterManifest, check: Check) -> None:
    try:
        found = check(scratch)
    except AdapterError as error:
        message = error.message.replace(scratch.name, folder.name)
        raise type(error)(message, error.hint) from error
    if found != manifest:
        raise AdapterError(f"{folder.name} was changed while it was copied.", HINT)


def _changed(source: Path, entry: FileDigest) -> AdapterError:
    return AdapterError(f"{source.parent.name}/{entry.name} was changed while it was copied.", HINT)
