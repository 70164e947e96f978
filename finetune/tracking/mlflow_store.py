"""One run in MLflow: what each entry of its journal becomes there, and all runs of a home."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.contracts.run import Home
from finetune.tracking.base import RunCard
from finetune.tracking.delivery import EntryRefused
from finetune.tracking.home_store import HomeStore
from finetune.tracking.jsonl import Entry
from finetune.tracking.place import StorePlace

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
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# What mlflow calls a defect of the request, as against a store that cannot be used now.
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE"})


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
    place = HomeStore(home)
    client = place.client()
    words = {word: text for text, word in STATUSES.items()}
    with place.errors():
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

    def __init__(self, place: StorePlace, card: RunCard) -> None:
        self._place = place
        self._card = card
        self._client: Any = None
        self.tracking_run_id = ""

    def open(self, known: str | None) -> str:
        """Find the run by its tracking id or by its own id, or make it; returns the tracking run id."""
        self._client = self._place.client()
        with self._place.errors():
            self.tracking_run_id = self._find(known) or self._create()
            self._complete_parameters()
        return self.tracking_run_id

    def reopen(self) -> None:
        """Set an ended run to running again."""
        with self._place.errors():
            self._client.update_run(self.tracking_run_id, status="RUNNING")

    def confirmed(self) -> int:
        """Number of the last journal entry that the store is known to have; 0 for none."""
        with self._place.errors():
            return int(self._client.get_run(self.tracking_run_id).data.tags.get(LINE_TAG, "0"))

    def ready(self, wait_seconds: float) -> None:
        """As Store says."""
        self._place.check(wait_seconds)

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
            "tags": self._tags,
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
            place = self._place.artifact_location(self._card.experiment)
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
