"""One run in MLflow's SQLite store. The only module that imports mlflow, and only when a store is opened."""

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.errors import MachineError, PlatformError
from finetune.contracts.io import disk_errors, sync_folder
from finetune.contracts.run import Home
from finetune.tracking.base import RunCard
from finetune.tracking.delivery import EntryRefused
from finetune.tracking.jsonl import Entry

# mlflow's pages do not show tags that begin with its own name
RUN_TAG = "mlflow.finetune.run"
LINE_TAG = "mlflow.finetune.journal_line"
# which of its two sets of pages mlflow opens an experiment in: that of training, not of chat applications
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
ADAPTER_FOLDER = "adapter"
PARAMETERS_PER_CALL = 100
TAG_CHARACTERS = 8000
# mlflow would cut longer ones with a warning; the artifact recipe.resolved.json holds them whole
PARAMETER_CHARACTERS = 6000
HINT = "Free the disk or repair the file; moving it away starts an empty store, and the journals of runs stay."
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# What mlflow calls a defect of the request, as against a store that cannot be used now.
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE"})

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
        with _store_errors(home):
            client = _make_client(home, uri)
    check_store(home, wait_seconds=5.0)
    return client


def _make_store(home: Home) -> None:
    """Make the tables in a file aside and rename it: a process killed meanwhile would leave what mlflow never opens."""
    scratch = home.tracking_database.with_suffix(".new")
    try:
        for path in _files_of(scratch):
            path.unlink(missing_ok=True)
        with _store_errors(home):
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


@contextmanager
def _store_errors(home: Home) -> Iterator[None]:
    """Whatever mlflow or its database layer raises, as the error of a machine that cannot."""
    try:
        yield
    except PlatformError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MachineError(f"The tracking store {home.tracking_database} cannot be used: {reason}", HINT) from error


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


@dataclass(frozen=True)
class RunRecord:
    """A run as the store has it: metrics hold the last value of each name; started_at is seconds since 1970, UTC."""

    run_id: str
    status: str
    started_at: int
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def read_runs(home: Home) -> list[RunRecord]:
    """Every run that this project recorded in the home's store, newest first. Raises MachineError."""
    client = open_client(home)
    words = {word: text for text, word in STATUSES.items()}
    with _store_errors(home):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        records: list[RunRecord] = []
        token = None
        while True:
            page = client.search_runs(experiments, max_results=1000, page_token=token)
            records += [
                RunRecord(
                    run_id=run.data.tags[RUN_TAG],
                    status=words.get(run.info.status, "running"),
                    started_at=run.info.start_time // 1000,
                    metrics=run.data.metrics,
                    tags=run.data.tags,
                )
                for run in page
                if RUN_TAG in run.data.tags
            ]
            token = page.token
            if not token:
                return sorted(records, key=lambda record: record.started_at, reverse=True)


class MlflowStore:
    """One run in the store. apply may be repeated: what is already there is not recorded twice."""

    def __init__(self, home: Home, card: RunCard) -> None:
        self._home = home
        self._card = card
        self._client: Any = None
        self.tracking_run_id = ""

    def open(self, known: str | None) -> str:
        """Find the run by its tracking id or by its own id, or make it; returns the tracking run id."""
        self._client = open_client(self._home)
        with _store_errors(self._home):
            self.tracking_run_id = self._find(known) or self._create()
            self._complete_parameters()
        return self.tracking_run_id

    def reopen(self) -> None:
        """Set an ended run to running again."""
        with _store_errors(self._home):
            self._client.update_run(self.tracking_run_id, status="RUNNING")

    def confirmed(self) -> int:
        """Number of the last journal entry that the store is known to have; 0 for none."""
        with _store_errors(self._home):
            return int(self._client.get_run(self.tracking_run_id).data.tags.get(LINE_TAG, "0"))

    def ready(self, wait_seconds: float) -> None:
        """As Store says."""
        check_store(self._home, wait_seconds)

    def confirm(self, number: int) -> None:
        """As Store says."""
        self._client.set_tag(self.tracking_run_id, LINE_TAG, str(number))

    def apply(self, entries: Sequence[Entry]) -> None:
        """As Store says."""
        from mlflow.exceptions import MlflowException

        kind = entries[0].kind
        try:
            if kind == "metrics":
                self._metrics(entries)
            elif action := self._actions().get(kind):
                action(entries[0].body)
        except FileNotFoundError as error:
            raise EntryRefused(f"{error.filename} is gone") from error
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise EntryRefused(str(error)) from error
            raise

    def _actions(self) -> Mapping[str, Callable[[Mapping[str, Any]], None]]:
        return {
            "start": self._tags,
            "dataset": self._dataset,
            "artifact": self._artifact,
            "describe": self._describe,
            "register": self._register,
            "finish": self._finish,
        }

    def _find(self, known: str | None) -> str | None:
        from mlflow.exceptions import MlflowException

        if known:
            try:
                info = self._client.get_run(known).info
                if info.lifecycle_stage == "active":
                    return str(info.run_id)
            except MlflowException:
                # another store than the one that gave this id: the run's own id decides
                pass
        experiment = self._client.get_experiment_by_name(self._card.experiment)
        if experiment is None:
            return None
        found = self._client.search_runs([experiment.experiment_id], f"tags.`{RUN_TAG}` = '{self._card.run_id}'")
        return str(found[0].info.run_id) if found else None

    def _create(self) -> str:
        tags = {RUN_TAG: self._card.run_id, "recipe": self._card.recipe_name}
        run = self._client.create_run(self._experiment(), run_name=self._card.run_id, tags=tags)
        return str(run.info.run_id)

    def _complete_parameters(self) -> None:
        """Record what the store lacks of the parameters: all for a new run, the rest after a kill between calls."""
        from mlflow.entities import Param

        known = self._client.get_run(self.tracking_run_id).data.params
        missing = [
            Param(key, value[:PARAMETER_CHARACTERS]) for key, value in self._card.parameters.items() if key not in known
        ]
        for start in range(0, len(missing), PARAMETERS_PER_CALL):
            self._client.log_batch(self.tracking_run_id, params=missing[start : start + PARAMETERS_PER_CALL])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._card.experiment)
        if found is None:
            folder = self._home.tracking_artifacts.absolute() / self._card.experiment.replace("/", "_")
            place = folder.as_uri()
            return str(
                self._client.create_experiment(self._card.experiment, artifact_location=place, tags=EXPERIMENT_TAGS)
            )
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _metrics(self, entries: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        rows = [Metric(name, value, entry.at_ms, step) for entry in entries for name, step, value in entry.points()]
        # equal (key, value, time, step) rows are recorded once by mlflow, and the journal fixes the time
        self._client.log_batch(self.tracking_run_id, metrics=rows)

    def _tags(self, body: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value[:TAG_CHARACTERS]) for key, value in body["tags"].items()]
        self._client.log_batch(self.tracking_run_id, tags=tags)

    def _dataset(self, body: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=body["name"],
            digest=body["digest"][:36],
            source_type="git repositories",
            source=json.dumps(body["source"]),
            profile=json.dumps(body["profile"]),
        )
        self._client.log_inputs(
            self.tracking_run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])]
        )

    def _artifact(self, body: Mapping[str, Any]) -> None:
        path = Path(body["path"])
        if path.is_dir():
            self._client.log_artifacts(self.tracking_run_id, str(path), body["folder"] or None)
        elif path.is_file():
            self._client.log_artifact(self.tracking_run_id, str(path), body["folder"] or None)
        else:
            raise EntryRefused(f"{path} is gone")

    def _describe(self, body: Mapping[str, Any]) -> None:
        self._client.set_tag(self.tracking_run_id, "mlflow.note.content", body["markdown"][:TAG_CHARACTERS])

    def _register(self, body: Mapping[str, Any]) -> None:
        self._artifact({"path": body["path"], "folder": ADAPTER_FOLDER})
        self._client.set_tag(self.tracking_run_id, "adapter_id", body["tags"]["adapter_id"])
        name = body["name"]
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name, description=body["model_description"])
        versions = self._client.search_model_versions(f"name = '{name}' AND run_id = '{self.tracking_run_id}'")
        for version in versions:
            if version.tags.get("adapter_id") == body["tags"]["adapter_id"]:
                self._client.update_model_version(name, version.version, description=body["description"])
                return
        run = self._client.get_run(self.tracking_run_id)
        self._client.create_model_version(
            name,
            source=f"{run.info.artifact_uri}/{ADAPTER_FOLDER}",
            run_id=self.tracking_run_id,
            tags=body["tags"],
            description=body["description"],
        )

    def _finish(self, body: Mapping[str, Any]) -> None:
        ended_at = body.get("ended_at_ms")
        self._client.set_terminated(self.tracking_run_id, status=STATUSES[body["status"]], end_time=ended_at)
