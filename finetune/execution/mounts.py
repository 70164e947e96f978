"""What the jail sees: the tree with its overlay, folders of the system, one small disk in memory.

Two steps. First, in a private mount namespace that no other process shares, everything is put below one folder: there
a tree or an interpreter under a closed home can still be reached. Then root is left for a user id without an account,
for a limit on processes does not bind root, and bubblewrap makes the jail from that folder and forgets the rest.
"""

import atexit
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO

from finetune.contracts.errors import InputError
from finetune.execution.host import Host

TREE = PurePosixPath("/repo")
HOME = PurePosixPath("/home/user")
# Debian keeps 65000 to 65533 free: no account, no files, no processes
JAIL_UID = 65001
INSIDE_UID = 1000
MAX_FILES = 1 << 16
# of /etc: what the linker, Java and a TLS library look for, nothing that names users or hosts
ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "java*", "ssl/certs")
ETC_FILES = {
    "passwd": f"user:x:{INSIDE_UID}:{INSIDE_UID}::{HOME}:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n",
    "group": f"user:x:{INSIDE_UID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# $1 folder, $2 bytes and $3 files of the disk, $4 tree, then what to show up to "--", then what to run.
# The archive on stdin holds tree/ (the overlay; a character device 0/0 hides a file, as overlayfs has it), etc/, and
# writable/ (copies of files of the tree by number, which lie on the disk and are bound over them).
STAGE = """
set -eu
stage=$1; size=$2; files=$3; tree=$4; shift 4
mount -n -t tmpfs -o mode=0755 jail "$stage"
tar -x -C "$stage" --no-same-owner -f -
mkdir "$stage/lower" "$stage/repo" "$stage/disk"
mount -n --rbind "$tree" "$stage/lower"
mount -n -t overlay -o "ro,lowerdir=$stage/tree:$stage/lower" jail "$stage/repo"
mount -n -t tmpfs -o "mode=0755,size=$size,nr_inodes=$files" jail "$stage/disk"
mkdir -m 1777 "$stage/disk/tmp" "$stage/disk/home" "$stage/disk/shm"
mv "$stage/writable" "$stage/disk/writable"
number=0
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir "$stage/$number"; else : > "$stage/$number"; fi
    mount -n --rbind "$1" "$stage/$number"
    number=$((number + 1)); shift
done
shift
exec "$@" < /dev/null
"""


@cache
def stage_folder(process: int) -> str:
    """An empty folder that each run covers in its own mount namespace; one per process, gone when it ends."""
    folder = tempfile.mkdtemp(prefix=f"jail-{process}-", dir="/tmp")
    # the user without an account must reach it; there is nothing in it
    os.chmod(folder, 0o755)  # noqa: S103
    atexit.register(_remove, process, folder)
    return folder


def _remove(process: int, folder: str) -> None:
    if os.getpid() == process:  # not a fork of it
        os.rmdir(folder)


def check_overlay(tree: Path, overlay: Iterable[str]) -> None:
    """Raise InputError for a path that leaves the tree, passes through a symbolic link or names .git."""
    for name in overlay:
        parts = name.split("/")
        if not all(parts) or {".", "..", ".git"} & set(parts) or "\0" in name:
            raise InputError(f"{name!r} is not a path inside a tree.", "Overlay paths are relative, without . and ..")
        parents = [tree.joinpath(*parts[:end]) for end in range(1, len(parts))]
        if any(parent.is_symlink() for parent in parents):
            raise InputError(f"{name!r} passes through a symbolic link.", "Name the file by its own path in the tree.")


@contextmanager
def archive(tree: Path, overlay: Mapping[str, bytes | None], writable: Sequence[str] = ()) -> Iterator[IO[bytes]]:
    """The files of ours as an archive in memory, open at its start: nothing is written to the host's disk."""
    with open(os.memfd_create("jail"), "w+b") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for folder in ("tree", "etc", "writable"):
                _add(tar, folder, tarfile.DIRTYPE)
            for name, text in ETC_FILES.items():
                _add(tar, f"etc/{name}", tarfile.REGTYPE, content=text.encode())
            for folder in sorted({str(parent) for name in overlay for parent in PurePosixPath(name).parents} - {"."}):
                _add(tar, f"tree/{folder}", tarfile.DIRTYPE)
            for name, content in {".git": None, **overlay}.items():
                if content is not None:
                    _add(tar, f"tree/{name}", tarfile.REGTYPE, content=content, mode=_mode(tree / name))
                elif os.path.lexists(tree / name):
                    _add(tar, f"tree/{name}", tarfile.CHRTYPE)
            for number, name in enumerate(writable):
                content, mode = (tree / name).read_bytes(), _mode(tree / name) | 0o222
                _add(tar, f"writable/{number}", tarfile.REGTYPE, content=content, mode=mode)
        stream.flush()
        stream.seek(0)
        yield stream


def _add(tar: tarfile.TarFile, name: str, kind: bytes, *, content: bytes = b"", mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, len(content), 1
    tar.addfile(entry, io.BytesIO(content))


def _mode(path: Path) -> int:
    """A script that is replaced stays a script."""
    try:
        found = path.lstat()
    except OSError:
        return 0o644
    return 0o755 if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IXUSR else 0o644


def staged(host: Host, inner: Sequence[str], *, tree: Path, readable: Sequence[Path], disk_bytes: int) -> list[str]:
    """The command line that mounts everything below the stage folder, leaves root, and runs inner (bubblewrap)."""
    user = [] if host.is_root else ["--user", "--map-root-user"]
    leave = [f"--reuid={JAIL_UID}", f"--regid={JAIL_UID}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    return [
        # to die with this process from the start; a change of user takes that back, so it is said again
        *[host.setpriv, "--pdeathsig=KILL", host.unshare, *user, "--mount", "--propagation=private"],
        *["--", "/bin/sh", "-c", STAGE, "jail"],
        *[stage_folder(os.getpid()), str(disk_bytes), str(MAX_FILES), str(tree), *map(str, readable), "--"],
        *([host.setpriv, "--pdeathsig=KILL", *leave, "--"] if host.is_root else []),
        *inner,
    ]


def bwrap_arguments(
    host: Host, readable: Sequence[Path], environment: Mapping[str, str], *, writable: Sequence[str] = ()
) -> list[str]:
    """Bubblewrap up to the command: all namespaces, no capability, no user namespace within, one writable disk."""
    stage = stage_folder(os.getpid())
    shown = [word for number, path in enumerate(readable) for word in ("--ro-bind", f"{stage}/{number}", str(path))]
    bound = [
        word
        for number, name in enumerate(writable)
        for word in ("--bind", f"{stage}/disk/writable/{number}", str(TREE / name))
    ]
    return [
        *[host.bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"],
        *["--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "jail"],
        *["--die-with-parent", "--new-session", "--clearenv"],
        *[word for name, value in environment.items() for word in ("--setenv", name, value)],
        *_system(stage),
        *["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--bind", f"{stage}/disk/shm", "/dev/shm"],  # noqa: S108
        *["--bind", f"{stage}/disk/tmp", "/tmp", "--bind", f"{stage}/disk/home", str(HOME)],  # noqa: S108
        *shown,
        *["--ro-bind", f"{stage}/repo", str(TREE), *bound, "--remount-ro", "/", "--chdir", str(TREE), "--"],
    ]


def _system(stage: str) -> list[str]:
    words = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for pattern in ETC:
        words += [word for path in sorted(Path("/etc").glob(pattern)) for word in ("--ro-bind", str(path), str(path))]
    return words + [word for name in ETC_FILES for word in ("--ro-bind", f"{stage}/etc/{name}", f"/etc/{name}")]
