"""Band hashes and verified similarities of numbered texts in one SQLite file."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_pipelines.dedup.minhash import BANDS_BYTES, NUM_BANDS, SIGNATURE
from data_pipelines.dedup.shingles import Words64
from finetune.contracts.errors import DatasetError

Units = NDArray[np.int64]
ROWS_AT_ONCE: Final = 4096
# memory grows with the number of texts by 8 bytes for each of these
BANDS_AT_ONCE: Final = 4
_SCHEMA = """
CREATE TABLE IF NOT EXISTS made_by (signature TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS units (unit INTEGER PRIMARY KEY, bands BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pairs
    (one INTEGER NOT NULL, other INTEGER NOT NULL, similarity REAL NOT NULL, PRIMARY KEY (one, other)) WITHOUT ROWID;
CREATE TEMP TABLE chosen (unit INTEGER PRIMARY KEY);
"""


class BandStore:
    """The tables; path None is a private file that goes with the process. Raises DatasetError on a damaged file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: list[tuple[int, bytes]] = []
        with self._reported():
            # SQLite's own name for a database of its own in a temporary file is ""
            self._database = sqlite3.connect("" if path is None else path)
            # a killed process loses nothing that was committed; only a power cut could, and this is a cache
            self._database.executescript(f"PRAGMA synchronous = OFF; {_SCHEMA}")
            self._check_signature()

    def add(self, unit: int, bands: bytes) -> None:
        """Keep the bands of a unit; a unit that is there already stays as it is."""
        assert len(bands) == BANDS_BYTES
        self._waiting.append((unit, bands))
        if len(self._waiting) == ROWS_AT_ONCE:
            self._flush()

    def remove(self, units: Iterable[int]) -> None:
        """Forget units and what they were compared with; unknown ones are no error."""
        self._flush()
        self._choose(units)
        with self._reported():
            chosen = "IN (SELECT unit FROM chosen)"
            self._database.execute(f"DELETE FROM pairs WHERE one {chosen} OR other {chosen}")  # noqa: S608
            self._database.execute(f"DELETE FROM units WHERE unit {chosen}")  # noqa: S608

    def units(self) -> Units:
        """All unit numbers, ascending."""
        self._flush()
        with self._reported():
            (count,) = self._database.execute("SELECT count(*) FROM units").fetchone()
            rows = self._database.execute("SELECT unit FROM units ORDER BY unit")
            return np.fromiter((unit for (unit,) in rows), np.int64, count)

    def columns(self, units: Units | None = None) -> Iterator[Words64]:
        """Band by band the hashes of the given units, which must be ascending and known; None means all."""
        self._flush()
        if units is None:
            source, count = "units", len(self.units())
        else:
            self._choose(units.tolist())
            source, count = "chosen CROSS JOIN units USING (unit)", len(units)
        for first in range(0, NUM_BANDS, BANDS_AT_ONCE):
            block = self._block(f"SELECT substr(bands, ?, ?) FROM {source} ORDER BY unit", first, count)  # noqa: S608
            yield from (block[:, place].copy() for place in range(BANDS_AT_ONCE))

    def similarity(self, one: int, other: int) -> float | None:
        """What was kept for a pair, the smaller number first; None when the two were never compared."""
        with self._reported():
            row = self._database.execute("SELECT similarity FROM pairs WHERE one = ? AND other = ?", (one, other))
            found = row.fetchone()
        return None if found is None else float(found[0])

    def keep(self, one: int, other: int, similarity: float) -> None:
        """Note what two units have in common, the smaller number first."""
        with self._reported():
            self._database.execute("INSERT INTO pairs VALUES (?, ?, ?)", (one, other, similarity))

    def keep_all(self, pairs: Iterable[tuple[int, int, float]]) -> None:
        """keep for many pairs."""
        with self._reported():
            self._database.executemany("INSERT INTO pairs VALUES (?, ?, ?)", pairs)

    def pairs(self) -> Iterator[tuple[int, int, float]]:
        """Everything that was kept, in order."""
        with self._reported():
            yield from self._database.execute("SELECT one, other, similarity FROM pairs ORDER BY one, other")

    def commit(self) -> None:
        """Everything so far survives the end of the process."""
        self._flush()
        with self._reported():
            self._database.commit()

    def close(self) -> None:
        """What was not committed is lost."""
        self._database.close()

    def _flush(self) -> None:
        with self._reported():
            self._database.executemany("INSERT OR IGNORE INTO units VALUES (?, ?)", self._waiting)
        self._waiting.clear()

    def _choose(self, units: Iterable[int]) -> None:
        with self._reported():
            self._database.execute("DELETE FROM chosen")
            self._database.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ((unit,) for unit in units))

    def _block(self, query: str, first: int, count: int) -> NDArray[np.uint64]:
        block = np.empty((count, BANDS_AT_ONCE), "<u8")
        filled = 0
        with self._reported():
            rows = self._database.execute(query, (first * 8 + 1, BANDS_AT_ONCE * 8))
            while part := rows.fetchmany(ROWS_AT_ONCE):
                hashes = np.frombuffer(b"".join(cell for (cell,) in part), "<u8")
                block[filled : filled + len(part)] = hashes.reshape(-1, BANDS_AT_ONCE)
                filled += len(part)
        assert filled == count
        return block.astype(np.uint64, copy=False)

    def _check_signature(self) -> None:
        found = self._database.execute("SELECT signature FROM made_by").fetchone()
        if found is None:
            self._database.execute("INSERT INTO made_by VALUES (?)", (SIGNATURE,))
        elif found[0] != SIGNATURE:
            raise DatasetError(
                f"{self._path} holds signatures made by {found[0]}; this version makes {SIGNATURE}.",
                "Delete the file and build again.",
            )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as cause:
            where = self._path or "The temporary near-duplicate table"
            raise DatasetError(
                f"{where} cannot be used as a near-duplicate table: {cause}.",
                "See that the disk has room and nobody else builds there; if so, delete the file and build again.",
            ) from cause
