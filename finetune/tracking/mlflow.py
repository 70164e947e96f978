"""MlflowTracker: journal first, then MLflow's SQLite store; a store that fails never stops a run."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import DatasetManifest
from finetune.contracts.errors import MachineError, PlatformError, RunError
from finetune.contracts.run import Home, RunLayout
from finetune.terminal.output import note
from finetune.tracking.base import RunCard, RunStatus
from finetune.tracking.card import dataset_name, dataset_profile, dataset_source, environment_tags, environment_text
from finetune.tracking.delivery import Delivery
from finetune.tracking.home_store import HomeStore
from finetune.tracking.jsonl import Entry, Journal, Kind, last_kind, parse, to_number
from finetune.tracking.mlflow_store import MlflowStore
from finetune.tracking.place import StorePlace
from finetune.tracking.plots import plot_losses
from finetune.tracking.server_store import ServerStore
from finetune.tracking.summary import adapter_text

FINISH_WAIT_SECONDS = 5.0
ENVIRONMENT_NAME = "environment.txt"
PARENT_TAG = "mlflow.parentRunId"
LOSS_PLOT_NAME = "loss.png"
PLOTS_FOLDER = "plots"


class MlflowTracker:
    """Tracker over `<home>/mlflow.db`, with the artifacts under `<home>/mlartifacts`, or over MLflow's server.

    parent is the tracking run id of the run that this one is shown under, None for one that stands by itself. server is
    its address; None: where the run was recorded before, at first the home. One object serves one run.
    """

    def __init__(self, home: Home, layout: RunLayout, *, parent: str | None = None, server: str | None = None) -> None:
        self._parent = {PARENT_TAG: parent} if parent else {}
        self._home = home
        self._server = server
        self._layout = layout
        self._journal: Journal | None = None
        self._delivery: Delivery | None = None
        self._journal_failed = False

    def start(self, card: RunCard, *, resume: str | None = None) -> str:
        """Open a run or go on with one; points that an earlier process could not record are recorded now.

        Raises MachineError when the store cannot be used, or when another process writes this run.
        """
        journal = Journal(self._layout.journal)
        earlier = list(journal.entries)
        try:
            place = place_of(self._home, self._server or server_of(earlier))
            store = MlflowStore(place, card)
            tracking_run_id = store.open(resume or opened_as(earlier))
            confirmed = store.confirmed()
            self._journal, self._delivery = journal, Delivery(store)
            self._delivery.add(*(entry for entry in earlier if entry.number > confirmed and entry.kind != "delivered"))
            tags = {**environment_tags(), **card.tags, **self._parent}
            self._write("start", _card_document(replace(card, tags=changed_tags(tags, read_card(earlier)))))
            self._write("opened", {"tracking_run_id": tracking_run_id, "server": place.server})
            self._delivery.deliver(now=True, wait_seconds=FINISH_WAIT_SECONDS)
            if earlier:
                store.reopen()
        except BaseException:
            journal.close()
            raise
        if not earlier:
            self._record_environment()
        return tracking_run_id

    def dataset(self, manifest: DatasetManifest, folder: Path) -> None:
        """As Tracker says; the manifest's counts are the profile that MLflow shows."""
        self._write(
            "dataset",
            {
                "name": dataset_name(manifest),
                "digest": manifest.content_digest,
                "source": dataset_source(manifest, folder),
                "profile": dataset_profile(manifest),
            },
            now=True,
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """As Tracker says, in six significant digits; sent to the store every few seconds, many at once."""
        self._write("metrics", {"step": step, "values": {key: to_number(value) for key, value in values.items()}})

    def artifact(self, path: Path, folder: str = "") -> None:
        """As Tracker says: a file goes under folder by its name, a folder's content goes under folder."""
        self._write("artifact", {"path": str(path.absolute()), "folder": folder}, now=True)

    def tag(self, values: Mapping[str, str]) -> None:
        """As Tracker says."""
        self._write("tags", {"tags": dict(values)}, now=True)

    def describe(self, markdown: str) -> None:
        """As Tracker says."""
        self._write("describe", {"markdown": markdown}, now=True)

    def register(self, manifest: AdapterManifest, folder: Path, name: str) -> None:
        """Copy the adapter to the artifacts under adapter/ and register it as a version of name, once."""
        tags = {
            "adapter_id": manifest.adapter_id,
            "base": manifest.base.name,
            "base_digest": manifest.base.digest[:12],
            "weights_digest": manifest.digests.weights[:12],
            "dataset_digest": manifest.digests.dataset[:12],
            "visibility": ", ".join(manifest.visibility) or "not stated",
        }
        self._write(
            "register",
            {
                "name": name,
                "path": str(folder.absolute()),
                "tags": cast(dict[str, JsonValue], tags),
                "description": adapter_text(manifest),
                "model_description": f"LoRA adapters that the recipe {name} trained; one version a run.",
            },
            now=True,
        )

    def finish(self, status: RunStatus) -> None:
        """As Tracker says."""
        if self._journal is None or self._delivery is None:
            return
        self._draw_losses()
        complete = self._write("finish", {"status": status, "ended_at_ms": self._ended_at_ms()}, now=True)
        if complete:
            self._journal.append("delivered", {})
        else:
            note(f"{len(self._delivery)} entries wait in {self._journal.path}; `finetune runs list` records them.")
        self._journal.sync()
        self._journal.close()
        self._journal = self._delivery = None

    def _write(self, kind: Kind, body: Mapping[str, JsonValue], *, now: bool = False) -> bool:
        """Journal an entry and pass it on; returns whether the store has everything."""
        assert self._journal is not None and self._delivery is not None, "start comes first"
        entry, error = self._journal.append(kind, body)
        if error is not None and not self._journal_failed:
            self._journal_failed = True
            note(f"The journal {self._journal.path} cannot be written ({error.strerror}); the run goes on.")
        if now:
            self._journal.sync()
        self._delivery.add(entry)
        return self._delivery.deliver(now=now, wait_seconds=FINISH_WAIT_SECONDS if kind == "finish" else 0.2)

    def _ended_at_ms(self) -> int:
        """When the run's work ended: now if this process trained, else when the last one that did finished.

        A later evaluation goes on with the run, and must not make it look as if it had trained until then.
        """
        entries = parse(self._layout.journal.read_bytes()) if self._layout.journal.is_file() else []
        ends = [entry for entry in entries if entry.kind == "finish"]
        trained = [entry.number for entry in entries for name, _, _ in entry.points() if name.startswith("train/")]
        if ends and max(trained, default=0) < ends[-1].number:
            return int(cast(int, ends[-1].body.get("ended_at_ms", ends[-1].at_ms)))
        return time.time_ns() // 1_000_000

    def _draw_losses(self) -> None:
        """Put the picture of the losses into the artifacts; a disk that refuses costs the picture, not the run."""
        path = self._layout.root / LOSS_PLOT_NAME
        try:
            drawn = plot_losses(read_points(self._layout.journal), path, title=self._layout.root.name)
        except (OSError, PlatformError) as error:
            note(f"{path} cannot be written ({error}); the run goes on.")
            return
        if drawn:
            self.artifact(path, PLOTS_FOLDER)

    def _record_environment(self) -> None:
        path = self._layout.root / ENVIRONMENT_NAME
        try:
            path.write_text(environment_text(), encoding="utf-8")
        except OSError as error:
            note(f"{path} cannot be written ({error.strerror}); the run goes on.")
            return
        self.artifact(path)


def replay(home: Home, layout: RunLayout) -> int:
    """Record what the store lacks of a run that no process is writing, and close it; returns the entries recorded.

    A run whose process died is closed as interrupted. Raises RunError for a run without a journal, MachineError when
    the store cannot be used or a process is still writing the run.
    """
    if not layout.journal.is_file():
        raise RunError(f"{layout.root} has no journal.", "Give the folder of a run.")
    with Journal(layout.journal) as journal:
        card = read_card(journal.entries)
        if card is None:
            return 0
        store = MlflowStore(place_of(home, server_of(journal.entries)), card)
        store.open(opened_as(journal.entries))
        confirmed = store.confirmed()
        if _died(journal.entries):
            entry, _ = journal.append("finish", {"status": "interrupted", "ended_at_ms": journal.entries[-1].at_ms})
            journal.entries.append(entry)
        missing = [entry for entry in journal.entries if entry.number > confirmed and entry.kind != "delivered"]
        delivery = Delivery(store)
        delivery.add(*missing)
        if not delivery.deliver(now=True, wait_seconds=FINISH_WAIT_SECONDS):
            raise MachineError(
                f"{len(delivery)} entries of {layout.journal} could not be recorded.", "Try again later."
            )
        if missing:
            journal.append("delivered", {})
    return len(missing)


def replay_all(home: Home) -> int:
    """replay for each run of home whose journal does not end in a delivery; a run that is being written is left."""
    num_entries = 0
    for journal in sorted(home.runs.glob("*/tracking.jsonl")):
        if last_kind(journal) in (None, "delivered"):
            continue
        try:
            num_entries += replay(home, RunLayout(journal.parent))
        except MachineError:
            continue
    return num_entries


def read_points(journal: Path) -> list[tuple[str, int, float]]:
    """Every (name, step, value) of a journal in order, for plots and summaries; nothing where there is no journal."""
    if not journal.is_file():
        return []
    return [point for entry in parse(journal.read_bytes()) for point in entry.points()]


def changed_tags(tags: Mapping[str, str], first: RunCard | None) -> dict[str, str]:
    """tags of a process that goes on with a run: what differs from its first process is recorded as later.<name>."""
    before = first.tags if first else {}
    return {
        (f"later.{name}" if name in before else name): value
        for name, value in tags.items()
        if before.get(name) != value and not (name in before and name.startswith("mlflow."))
    }


def opened_as(entries: list[Entry]) -> str | None:
    """The tracking run id that a journal's run had last; None when no store was ever opened."""
    found = [str(entry.body["tracking_run_id"]) for entry in entries if entry.kind == "opened"]
    return found[-1] if found else None


def server_of(entries: list[Entry]) -> str | None:
    """The address of the server that a journal's run was recorded at last; None for the home's own store."""
    found = [entry.body.get("server") for entry in entries if entry.kind == "opened"]
    return str(found[-1]) if found and found[-1] else None


def place_of(home: Home, server: str | None) -> StorePlace:
    """The server at an address, or the home's own store."""
    return ServerStore(server) if server else HomeStore(home)


def read_card(entries: list[Entry]) -> RunCard | None:
    """The card a journal's run was started with, so that a lost store can be filled again; None without one."""
    for entry in entries:
        if entry.kind == "start":
            body = cast(dict[str, str], entry.body)
            return RunCard(
                run_id=body["run_id"],
                experiment=body["experiment"],
                recipe_name=body["recipe_name"],
                parameters=cast(dict[str, str], entry.body["parameters"]),
                tags=cast(dict[str, str], entry.body["tags"]),
            )
    return None


def _card_document(card: RunCard) -> dict[str, JsonValue]:
    return {
        "run_id": card.run_id,
        "experiment": card.experiment,
        "recipe_name": card.recipe_name,
        "parameters": dict(card.parameters),
        "tags": dict(card.tags),
    }


def _died(entries: list[Entry]) -> bool:
    """Whether the last process of the run ended without finish."""
    marks = [entry.kind for entry in entries if entry.kind in ("start", "finish")]
    return bool(marks) and marks[-1] == "start"
