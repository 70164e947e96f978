"""Writes that survive a crash, and digests: temporary file, fsync, rename; SHA-256 of bytes, files and folders."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from finetune.contracts.errors import InputError, MachineError, PlatformError

CHUNK_BYTES = 1 << 20
# temporary files and folders are born private; what is published is readable like any file of the user
FILE_MODE = 0o644
PRIVATE_MODE = 0o600
FOLDER_MODE = 0o755
ModelT = TypeVar("ModelT", bound=BaseModel)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a MachineError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"No space left on the disk that holds {path}.", "Free some space, then run the same command again."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise MachineError(
                f"{path} cannot be written: {error.strerror}.", "Choose another folder, or correct its permissions."
            ) from error
        raise


@contextmanager
def replaced(path: Path, *, mode: int = FILE_MODE) -> Iterator[IO[bytes]]:
    """Yield a stream whose content takes path's place when the block ends well; else path is as it was.

    Parents are made. Raises MachineError when the disk refuses.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, mode)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Replace path by content, or leave it as it was; parents are made. Raises MachineError when the disk refuses."""
    with replaced(path, mode=mode) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """write_bytes of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, document: BaseModel | JsonValue) -> None:
    """Write a model or a JSON value, indented, keys in declaration order, ending in a newline."""
    write_text(path, to_json(document))


def to_json(document: BaseModel | JsonValue) -> str:
    """The one way this project spells JSON in files: two spaces, UTF-8, a final newline."""
    value = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_model(path: Path, kind: type[ModelT], *, error: type[InputError], hint: str) -> ModelT:
    """Read a JSON file as a contract; a missing, broken or newer file becomes error, with the path and the field."""
    try:
        require_file(path)
        content = path.read_bytes()
    except FileNotFoundError as cause:
        raise error(f"{path} does not exist.", hint) from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror}.", hint) from cause
    return parse_model(content, kind, path=path, error=error, hint=hint)


def parse_model(content: bytes, kind: type[ModelT], *, path: Path, error: type[InputError], hint: str) -> ModelT:
    """The content of path as a contract; a broken or newer one becomes error, with the path and the field."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise error(f"{path} is damaged: {where}: {first['msg']}.", hint) from cause


def require_file(path: Path) -> None:
    """Raise OSError for a pipe, a device or a folder, which a reader waits for or never finishes; links are followed.

    FileNotFoundError, where there is nothing, is one.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty scratch folder beside target that takes target's place when the block ends well.

    A folder already at target is replaced only then; when the block fails, target is as it was.
    """
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.new."))
        try:
            yield scratch
            synced = set()
            for entry in scratch.rglob("*"):
                # a file with several names is one file
                status = entry.lstat()
                if (status.st_dev, status.st_ino) not in synced:
                    sync_folder(entry)
                    synced.add((status.st_dev, status.st_ino))
            scratch.chmod(FOLDER_MODE)
            _swap(scratch, target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _swap(scratch: Path, target: Path) -> None:
    if not target.exists():
        os.rename(scratch, target)
    else:
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
        os.rename(target, old / "was")
        try:
            os.rename(scratch, target)
        except OSError:
            os.rename(old / "was", target)
            raise
        finally:
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
    sync_folder(target.parent)


@contextmanager
def sole_writer(lock: Path, busy: PlatformError) -> Iterator[None]:
    """Hold the lock file while the block runs, so that one process writes; raises busy when another holds it.

    The system lets go of it when the process ends, however it ends; the empty file stays.
    """
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as cause:
        raise MachineError(
            f"{lock} cannot be opened: {cause.strerror}.", "Correct its permissions; if it is a link, remove it."
        ) from cause
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise busy from cause
        yield
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """fsync a file or a folder by its path, so that a rename before it outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_text(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in hexadecimal."""
    return digest_bytes(text.encode("utf-8"))


def digest_json(document: BaseModel | JsonValue) -> str:
    """SHA-256 of a canonical JSON spelling: sorted keys, no white space."""
    value = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    return digest_text(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def digest_file(path: Path, *, seen: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's content, read in chunks; seen hears the number of bytes of each.

    Raises InputError for what is no file.
    """
    state = hashlib.sha256()
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file.", "Remove it, and make anew what it belongs to.")
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            state.update(chunk)
            if seen is not None:
                seen(len(chunk))
    return state.hexdigest()


def digest_files(paths: list[Path], *, seen: Callable[[int], None] | None = None) -> str:
    """One SHA-256 over the names and digests of some files of one folder, independent of their order."""
    lines = sorted(f"{digest_file(path, seen=seen)}  {path.name}" for path in paths)
    return digest_text("\n".join(lines))
