"""What was computed once and need not be computed again: results by key and texts by digest, in one SQLite file.

Workers write packs, files of the same shape, and the parent merges them: nothing has two writers.
"""

import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import pyarrow as pa

from finetune.contracts.errors import DatasetError, MachineError
from finetune.contracts.io import sync_folder

KEY_BYTES = 16
ZSTD_LEVEL = 1
ROWS_PER_QUERY = 500
# a store of another version is not read; its name says which it is
STORE_NAME = "store-2.db"
SCHEMA = """
CREATE TABLE IF NOT EXISTS result
  (key BLOB PRIMARY KEY, people BLOB, reason TEXT, texts BLOB, head BLOB, bands BLOB, picks BLOB, functions BLOB);
CREATE TABLE IF NOT EXISTS text (digest BLOB PRIMARY KEY, length INTEGER, value BLOB);
CREATE TABLE IF NOT EXISTS still (key BLOB PRIMARY KEY, people BLOB);
CREATE TABLE IF NOT EXISTS similarity (one BLOB, other BLOB, value REAL, PRIMARY KEY (one, other)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage found for one key.

    people is the digest of the dictionary of persons under which it holds. head is the stage's own record; bands are
    the near-duplicate bands of its texts, one after the other; picks are what rows are made from; functions are what
    the leakage gate must know; reason says why nothing is made of it, as head does, "" when something is.
    """

    key: bytes
    people: bytes
    head: bytes
    bands: bytes = b""
    picks: bytes = b""
    functions: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What of a result says whether it holds and is of use."""

    people: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Still:
    """The result of key holds under another dictionary of persons too."""

    key: bytes
    people: bytes


def key_of(*parts: object) -> bytes:
    """A key of 16 bytes for parts whose text tells them apart."""
    state = blake2b(digest_size=KEY_BYTES)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        state.update(b"%d:" % len(content))
        state.update(content)
    return state.digest()


def text_digest(content: bytes) -> bytes:
    """The name of a text in a store."""
    return blake2b(content, digest_size=KEY_BYTES).digest()


class Store:
    """An open store. read_only opens what is there and takes no lock; a new file is made otherwise."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
        name = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rwc'}"
        with self._reported():
            self._base = sqlite3.connect(name, uri=True, isolation_level=None)
        if not read_only:
            with self._reported():
                self._base.executescript("PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = NORMAL;" + SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def heads(self, keys: Sequence[bytes]) -> dict[bytes, Result]:
        """Results without their picks, for those of the keys that are known."""
        rows = self._of_keys("key, people, head, bands, reason", keys)
        return {key: Result(key, people, head, bands, reason=why) for key, people, head, bands, why in rows}

    def states(self, keys: Sequence[bytes]) -> dict[bytes, State]:
        """What heads gives, without what is large in it."""
        return {key: State(people, reason) for key, people, reason in self._of_keys("key, people, reason", keys)}

    def _of_keys(self, columns: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(keys), ROWS_PER_QUERY):
            chunk = keys[first : first + ROWS_PER_QUERY]
            marks = ",".join("?" * len(chunk))
            with self._reported():
                yield from self._base.execute(f"SELECT {columns} FROM result WHERE key IN ({marks})", chunk)  # noqa: S608

    def picks(self, key: bytes) -> bytes:
        """The picks of a result that is known."""
        return self._column("picks", key)

    def functions(self, key: bytes) -> bytes:
        """The functions of a result that is known."""
        return self._column("functions", key)

    def text(self, digest: bytes) -> bytes:
        """A text, checked against its digest. Raises DatasetError when it is missing or altered."""
        with self._reported():
            row = self._base.execute("SELECT length, value FROM text WHERE digest = ?", (digest,)).fetchone()
        content = b""
        if row is not None:
            with suppress(OSError, pa.ArrowInvalid, TypeError):
                content = self._codec.decompress(row[1], decompressed_size=row[0], asbytes=True) if row[0] else b""
        if row is None or text_digest(content) != digest:
            raise self._damaged("a text is missing or was altered")
        return content

    def add(self, result: Result, texts: Iterable[bytes] = ()) -> None:
        """Keep a result, and all texts that it names under their digests."""
        rows = [(text_digest(text), len(text), self._codec.compress(text, asbytes=True)) for text in texts]
        named = b"".join(digest for digest, _, _ in rows)
        blobs = (result.head, result.bands, result.picks, result.functions)
        with self._reported():
            self._base.execute(
                "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (result.key, result.people, result.reason, named, *blobs),
            )
            self._base.executemany("INSERT OR IGNORE INTO text VALUES (?, ?, ?)", rows)

    def begin(self) -> None:
        """Start a transaction; commit ends it."""
        with self._reported():
            self._base.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since begin last."""
        with self._reported():
            self._base.execute("COMMIT")

    def merge(self, pack: Path) -> None:
        """Take in everything that a pack holds, or nothing."""
        with self._reported(pack):
            self._base.execute("ATTACH ? AS pack", (str(pack),))
            try:
                self._base.executescript(
                    "BEGIN IMMEDIATE; INSERT OR REPLACE INTO result SELECT * FROM pack.result;"
                    "INSERT OR IGNORE INTO text SELECT * FROM pack.text;"
                    "UPDATE result SET people = (SELECT people FROM pack.still WHERE still.key = result.key)"
                    " WHERE key IN (SELECT key FROM pack.still); COMMIT;"
                )
            finally:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                self._base.execute("DETACH pack")

    def similarities(self) -> Iterator[tuple[bytes, bytes, float]]:
        """Pairs of digests whose similarity was computed before."""
        with self._reported():
            yield from self._base.execute("SELECT one, other, value FROM similarity ORDER BY one, other")

    def replace_similarities(self, rows: Iterable[tuple[bytes, bytes, float]]) -> None:
        """Keep these pairs and no others."""
        self.begin()
        with self._reported():
            self._base.execute("DELETE FROM similarity")
            self._base.executemany("INSERT OR REPLACE INTO similarity VALUES (?, ?, ?)", rows)
        self.commit()

    def retain(self, keys: Iterable[bytes]) -> tuple[int, int]:
        """Keep these results and the texts that they name, and overwrite the places of all others.

        How many results and texts went.
        """
        base = self._base
        with self._reported():
            base.execute("PRAGMA secure_delete = ON")
            base.executescript(
                "CREATE TEMP TABLE kept (name BLOB PRIMARY KEY); CREATE TEMP TABLE named (name BLOB PRIMARY KEY);"
            )
        self.begin()
        with self._reported():
            base.executemany("INSERT OR IGNORE INTO kept VALUES (?)", ((key,) for key in keys))
            results = base.execute("DELETE FROM result WHERE key NOT IN (SELECT name FROM kept)").rowcount
            for (texts,) in base.execute("SELECT texts FROM result"):
                digests = [(texts[at : at + KEY_BYTES],) for at in range(0, len(texts), KEY_BYTES)]
                base.executemany("INSERT OR IGNORE INTO named VALUES (?)", digests)
            texts = base.execute("DELETE FROM text WHERE digest NOT IN (SELECT name FROM named)").rowcount
            named = "NOT IN (SELECT name FROM named)"
            base.execute(f"DELETE FROM similarity WHERE one {named} OR other {named}")  # noqa: S608
            base.execute("DELETE FROM still")
        self.commit()
        with self._reported():
            base.executescript("DROP TABLE kept; DROP TABLE named;")
        return results, texts

    def _column(self, name: str, key: bytes) -> bytes:
        with self._reported():
            row = self._base.execute(f"SELECT {name} FROM result WHERE key = ?", (key,)).fetchone()  # noqa: S608
        if row is None:
            raise self._damaged("a result is missing")
        return bytes(row[0])

    @contextmanager
    def _reported(self, path: Path | None = None) -> Iterator[None]:
        """What SQLite says of path, None for the store's own, as an error for a person."""
        try:
            yield
        except sqlite3.Error as cause:
            if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise MachineError(
                    f"No space left on the disk that holds {self.path}.",
                    "Free some space, then run the same command again.",
                ) from cause
            raise self._damaged(str(cause), path) from cause

    def _damaged(self, what: str, path: Path | None = None) -> DatasetError:
        place = path or self.path
        return DatasetError(
            f"The store {place} is damaged: {what}.", f"Delete {place}, then build again: it is only a cache."
        )


def write_pack(path: Path, rows: Iterable[tuple[Result | Still, Sequence[bytes]]]) -> None:
    """Write results and texts as a pack; it appears under its name only when it is whole."""
    scratch = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with Store(scratch) as pack:
        # a journal would be left behind under the scratch name; a pack that is not whole is never looked at
        pack._base.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
        pack.begin()
        for row, texts in rows:
            if isinstance(row, Still):
                pack._base.execute("INSERT OR REPLACE INTO still VALUES (?, ?)", (row.key, row.people))
            else:
                pack.add(row, texts)
        pack.commit()
    sync_folder(scratch)
    os.replace(scratch, path)
