"""A home's own MLflow store: a SQLite file, made whole or not at all, with the artifacts in a folder beside it."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.contracts.errors import MachineError
from finetune.contracts.io import disk_errors, sync_folder
from finetune.contracts.run import Home
from finetune.tracking.place import store_errors

HINT = "Free the disk or repair the file; moving it away starts an empty store, and the journals of runs stay."

# No pool: a store that was replaced on disk is then seen by the next call, and no file stays open between calls.
os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
# mlflow prints a traceback for each failed statement, and an INFO line for each table it makes.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
logging.getLogger("alembic").setLevel(logging.WARNING)


def store_uri(home: Home) -> str:
    """The address of a home's SQLite store. Raises MachineError for a path that no such address can hold."""
    path = str(home.tracking_database.absolute())
    if any(character in path for character in "?#%"):
        raise MachineError(f"The tracking store cannot lie at {path}.", "Choose a --home without ?, # or % in it.")
    return f"sqlite:///{path}"


def check_store(home: Home, wait_seconds: float) -> None:
    """Raise MachineError unless the store's file is whole and can be written within wait_seconds.

    It costs about a millisecond. Without it mlflow would retry for minutes, or make an empty store in silence.
    """
    path = home.tracking_database
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=wait_seconds)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM experiments").fetchone()
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MachineError(f"The tracking store {path} cannot be used: {error}.", HINT) from error


def open_client(home: Home) -> Any:
    """An MlflowClient of the home's store, made and brought up to date first. Raises MachineError."""
    uri = store_uri(home)
    with disk_errors(home.tracking_database), _one_at_a_time(home):
        home.tracking_artifacts.mkdir(parents=True, exist_ok=True)
        if home.tracking_database.exists():
            _check_file(home)
        else:
            _make_store(home)
        with store_errors(str(home.tracking_database), HINT):
            client = _make_client(home, uri)
    check_store(home, wait_seconds=5.0)
    return client


def _make_store(home: Home) -> None:
    """Make the tables in a file aside and rename it: a process killed meanwhile would leave what mlflow never opens."""
    scratch = home.tracking_database.with_suffix(".new")
    try:
        for path in _files_of(scratch):
            path.unlink(missing_ok=True)
        with store_errors(str(home.tracking_database), HINT):
            _open_store(home, f"sqlite:///{scratch.absolute()}")
        sync_folder(scratch)
        os.replace(scratch, home.tracking_database)
        sync_folder(home.root)
    finally:
        for path in _files_of(scratch):
            path.unlink(missing_ok=True)


def _files_of(database: Path) -> list[Path]:
    """A SQLite database and what SQLite may lay beside it."""
    return [database, *(database.with_name(f"{database.name}-{kind}") for kind in ("journal", "wal", "shm"))]


def _open_store(home: Home, uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # made here and not by the client, which would put the default experiment's files into the working folder
    SqlAlchemyStore(uri, home.tracking_artifacts.absolute().as_uri())


def _make_client(home: Home, uri: str) -> Any:
    from mlflow import MlflowClient

    _open_store(home, uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _check_file(home: Home) -> None:
    """Raise MachineError for a file that is no readable SQLite database; mlflow would retry for a minute."""
    path = home.tracking_database
    if not os.access(path, os.R_OK | os.W_OK):
        raise MachineError(f"The tracking store {path} cannot be written.", "Correct its permissions.")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MachineError(f"The tracking store {path} cannot be used: {error}.", HINT) from error


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    """Two processes that make the tables at once would both fail."""
    home.root.mkdir(parents=True, exist_ok=True)
    with home.tracking_database.with_suffix(".lock").open("a") as stream:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
        yield


class HomeStore:
    """The StorePlace of a home."""

    server: str | None = None

    def __init__(self, home: Home) -> None:
        self._home = home

    def client(self) -> Any:
        """As StorePlace says; the store is made first where there is none."""
        return open_client(self._home)

    def check(self, wait_seconds: float) -> None:
        """As StorePlace says."""
        check_store(self._home, wait_seconds)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """As StorePlace says."""
        with store_errors(str(self._home.tracking_database), HINT):
            yield

    def artifact_location(self, experiment: str) -> str | None:
        """As StorePlace says: a folder of the home."""
        return (self._home.tracking_artifacts.absolute() / experiment.replace("/", "_")).as_uri()
