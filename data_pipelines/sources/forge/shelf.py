"""Requests and comments put in order on disk: exports hold them in any order, and replies far from what they answer."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

from data_pipelines.sources.forge.records import Forge, Note, Request, Resolution, Side

TABLES = """
create table request(repository text, number integer, content text, primary key (repository, number)) without rowid;
create table resolution(thread text primary key, resolved integer) without rowid;
create table note(repository text, number integer, thread text, id integer, content text, place text,
                  primary key (repository, number, thread, id)) without rowid;
"""
NOTES = "select repository, number, thread, content, place from note order by repository, number, thread, id"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The comments of one thread, oldest first, with the places of their records; request is None if it is missing."""

    notes: tuple[tuple[Note, str], ...]
    request: Request | None
    resolved: bool | None


class Shelf:
    """A private file that is gone when the block ends; memory does not grow with the export."""

    def __init__(self) -> None:
        # an empty name is a temporary file of SQLite's own, which is deleted when it is closed
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(TABLES)
        self._connection.execute("begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def put(self, record: Request | Note | Resolution, place: str) -> None:
        """Keep a record; of one that comes twice, as in pages that overlap, the last stays."""
        match record:
            case Request():
                self._insert("request", record.repository, record.number, json.dumps(asdict(record)))
            case Resolution():
                self._insert("resolution", record.thread, record.resolved)
            case Note():
                content = json.dumps(asdict(record))
                self._insert("note", record.repository, record.number, record.thread, record.order, content, place)

    def threads(self) -> Iterator[Gathered]:
        """All threads, by repository and number of the request."""
        for (repository, number, thread), rows in groupby(self._connection.execute(NOTES), lambda row: row[:3]):
            resolved = self._one("select resolved from resolution where thread = ?", thread)
            request = self._one("select content from request where repository = ? and number = ?", repository, number)
            yield Gathered(
                tuple((_note(row[3]), row[4]) for row in rows),
                _request(request) if isinstance(request, str) else None,
                None if resolved is None else bool(resolved),
            )

    def _insert(self, table: str, *values: str | int) -> None:
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"insert or replace into {table} values ({marks})", values)  # noqa: S608

    def _one(self, query: str, *values: str | int) -> str | int | None:
        row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None


def _note(content: str) -> Note:
    fields = json.loads(content)
    return Note(**{**fields, "forge": Forge(fields["forge"]), "side": Side(fields["side"])})


def _request(content: str) -> Request:
    fields = json.loads(content)
    return Request(**{**fields, "merge_commits": tuple(fields["merge_commits"]), "commits": tuple(fields["commits"])})
