"""All files and edits of a build in one scratch database, so that memory does not grow with them."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from data_pipelines.document import Origin
from data_pipelines.engine.results import FileHead
from data_pipelines.engine.store import Result
from finetune.contracts.dataset import Slice, Split

SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
CREATE TABLE file (id INTEGER PRIMARY KEY, source INTEGER, path TEXT, blob TEXT, language TEXT, license TEXT,
  revision TEXT, time INTEGER, author TEXT, key BLOB, text BLOB, bytes INTEGER, cluster INTEGER, twin INTEGER,
  split TEXT, slice TEXT, kept INTEGER DEFAULT 0);
CREATE TABLE edit (id INTEGER PRIMARY KEY, source INTEGER, revision TEXT, time INTEGER, author TEXT, key BLOB,
  head BLOB, path TEXT, split TEXT, slice TEXT, kind TEXT, clusters TEXT);
CREATE TABLE edit_text (edit INTEGER, text BLOB);
CREATE TABLE edit_path (edit INTEGER, path TEXT);
CREATE TABLE unit (text BLOB PRIMARY KEY, time INTEGER, bands BLOB, number INTEGER, cluster INTEGER, twin INTEGER)
  WITHOUT ROWID;
"""


# a commit, or what a commit did to one file in answer to a review
EditKind = Literal["edit", "review"]
FILE_COLUMNS = "id, source, path, blob, language, license, revision, time, author, key, text, bytes"
FILE_COLUMNS += ", cluster, twin, split, slice, kept"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that passed everything before the split; its text lies in the store under text, its picks under key.

    cluster: the oldest unit that can be reached over twins of twins; no two twins lie in two clusters. twin: the oldest
    unit that it is a twin of, or itself. kept False marks a file of which a twin is kept.
    """

    id: int
    source: int
    path: str
    blob: str
    language: str
    license: str | None
    origin: Origin
    key: bytes
    text: bytes
    bytes: int
    cluster: int
    twin: int
    split: Split | None
    slice: Slice | None
    kept: bool


@dataclass(frozen=True, slots=True)
class EditRow:
    """A commit that can be an edit row, or a fix that can be a review row; path is that of its first file."""

    id: int
    source: int
    origin: Origin
    key: bytes
    head: bytes
    path: str
    clusters: tuple[int, ...]
    split: Split | None
    slice: Slice | None
    kind: EditKind = "edit"


class Ledger:
    """The database; a context manager that deletes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.executescript(SCHEMA + "BEGIN;")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        self._path.unlink(missing_ok=True)

    def add_file(self, source: int, *, path: str, blob: str, origin: Origin, head: FileHead, stored: Result) -> None:
        """Take in a file that was read, and its text as a unit."""
        text = bytes.fromhex(head.text)
        self._base.execute(
            "INSERT INTO file (source, path, blob, language, license, revision, time, author, key, text, bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (source, path, blob, head.language, head.license, *_origin(origin), stored.key, text, head.bytes),
        )
        self._add_units([(text, origin.time, stored.bands)])

    def add_edit(
        self,
        source: int,
        *,
        origin: Origin,
        key: bytes,
        head: bytes,
        paths: Sequence[str],
        sides: Iterable[tuple[bytes, bytes]],
        kind: EditKind = "edit",
    ) -> None:
        """Take in an edit; head digests what its row says, sides are digest and bands of each text, both ways."""
        row = self._base.execute(
            "INSERT INTO edit (source, revision, time, author, key, head, path, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (source, *_origin(origin), key, head, paths[0], kind),
        )
        self._base.executemany("INSERT INTO edit_path VALUES (?, ?)", [(row.lastrowid, path) for path in paths])
        units = [(text, origin.time, bands) for text, bands in sides]
        self._base.executemany("INSERT INTO edit_text VALUES (?, ?)", [(row.lastrowid, text) for text, _, _ in units])
        self._add_units(units)

    def _add_units(self, units: Sequence[tuple[bytes, int, bytes]]) -> None:
        # the first commit in time that a text is known from: a later build does not number it anew
        self._base.executemany(
            "INSERT INTO unit (text, time, bands) VALUES (?, ?, ?)"
            " ON CONFLICT (text) DO UPDATE SET time = min(time, excluded.time)",
            units,
        )

    def number_units(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Number the units, oldest first; number, digest of the text and bands of each."""
        rows = self._base.execute("SELECT text, bands FROM unit ORDER BY time, text")
        for number, (text, bands) in enumerate(rows):
            yield number, text, bands

    def set_clusters(self, rows: Iterable[tuple[bytes, int, int, int]]) -> None:
        """Note number, cluster and twin of each text, then those of files, and the clusters of edits."""
        self._base.executemany("UPDATE unit SET number = ?2, cluster = ?3, twin = ?4 WHERE text = ?1", rows)
        self._base.execute(
            "UPDATE file SET (cluster, twin) = (SELECT cluster, twin FROM unit WHERE unit.text = file.text)"
        )
        self._base.execute("CREATE INDEX edit_text_edit ON edit_text (edit)")
        self._base.execute("CREATE INDEX edit_path_edit ON edit_path (edit)")
        self._base.execute("CREATE INDEX file_path ON file (source, path)")
        self._base.execute(
            "UPDATE edit SET clusters = (SELECT group_concat(cluster) FROM ("
            "SELECT cluster FROM edit_text JOIN unit USING (text) WHERE edit_text.edit = edit.id UNION"
            " SELECT cluster FROM edit_path JOIN file USING (path)"
            " WHERE edit_path.edit = edit.id AND file.source = edit.source))"
        )

    def seen(self) -> Iterator[tuple[str, int]]:
        """Every text with its cluster, those of both sides of edits too."""
        for text, cluster in self._base.cursor().execute("SELECT text, cluster FROM unit ORDER BY number"):
            yield text.hex(), cluster

    def cluster_names(self) -> dict[int, str]:
        """A name for each cluster that outlives a build: by the text that stands for it."""
        rows = self._base.execute("SELECT number, text FROM unit WHERE number = cluster")
        return {number: f"c{text.hex()[:12]}" for number, text in rows}

    def files(self, source: int | None = None) -> Iterator[FileRow]:
        """Files in the order in which they came; None gives those of all sources."""
        where = "" if source is None else "WHERE source = ?"
        query = f"SELECT {FILE_COLUMNS} FROM file {where} ORDER BY id"  # noqa: S608
        for row in self._base.cursor().execute(query, () if source is None else (source,)):
            values = [*row[:6], Origin(*row[6:9]), *row[9:14], _split(row[14]), _slice(row[15]), bool(row[16])]
            yield FileRow(*values)

    def edits(self, source: int | None = None, *, kind: EditKind | None = None) -> Iterator[EditRow]:
        """Edits in the order in which they came, with the clusters of their texts and of their files at the head.

        source None gives those of all sources, kind None those of both kinds.
        """
        query = (
            "SELECT id, source, revision, time, author, key, head, path, clusters, split, slice, kind FROM edit"
            " WHERE (?1 IS NULL OR source = ?1) AND (?2 IS NULL OR kind = ?2) ORDER BY id"
        )
        for row in self._base.cursor().execute(query, (source, kind)):
            clusters = tuple(sorted(map(int, str(row[8]).split(","))))
            values = [*row[:2], Origin(*row[2:5]), *row[5:8], clusters, _split(row[9]), _slice(row[10]), row[11]]
            yield EditRow(*values)

    def commits(self) -> Iterator[str]:
        """The commit of each file, then of each edit, in the order in which they came."""
        for table in ("file", "edit"):
            for (commit,) in self._base.cursor().execute(f"SELECT revision FROM {table} ORDER BY id"):  # noqa: S608
                yield commit

    def paths(self) -> Iterator[tuple[int, str]]:
        """The source and the path of each file, then of each edit, in the order in which they came."""
        for table in ("file", "edit"):
            yield from self._base.cursor().execute(f"SELECT source, path FROM {table} ORDER BY id")  # noqa: S608

    def place_files(self, rows: Iterable[tuple[int, Split | None, Slice | None, bool]]) -> None:
        """Note where each file goes: id, split, slice, and whether it is kept."""
        self._base.executemany("UPDATE file SET split = ?2, slice = ?3, kept = ?4 WHERE id = ?1", list(_placed(rows)))

    def place_edits(self, rows: Iterable[tuple[int, Split | None, Slice | None]]) -> None:
        """Note where each edit goes."""
        placed = [(number, split and split.value, part and part.value) for number, split, part in rows]
        self._base.executemany("UPDATE edit SET split = ?2, slice = ?3 WHERE id = ?1", placed)

    def num_files(self, *, but_of: int | None = None) -> int:
        """Files taken in, without those of one source; None counts all."""
        query = "SELECT count(*) FROM file WHERE source IS NOT ?"
        return int(self._base.execute(query, (but_of,)).fetchone()[0])


def _placed(rows: Iterable[tuple[int, Split | None, Slice | None, bool]]) -> Iterator[tuple[object, ...]]:
    for number, split, part, kept in rows:
        yield number, split and split.value, part and part.value, int(kept)


def _origin(origin: Origin) -> tuple[str, int, str]:
    return origin.commit, origin.time, origin.author


def _split(name: str | None) -> Split | None:
    return Split(name) if name else None


def _slice(name: str | None) -> Slice | None:
    return Slice(name) if name else None
