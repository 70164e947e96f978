"""Move an alias of the registry, so that the record and the alias say the same, also after a kill between the two.

An intent ("promoting", "rolling back") is recorded, then the alias moved, then "promoted" or "rolled back" recorded. An
intent without its end is settled by the next command: if the alias stands where it meant to put it, the end is written,
else "abandoned". Within one home the lock of the record lets one process at a time do this. The registry has no
compare-and-set: across machines the alias is read right before and right after, which finds most but not all races.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from finetune.contracts.chain import PROMOTED, ROLLED_BACK, Entry, LivePlace, OpenChain
from finetune.contracts.errors import MachineError, RunError
from finetune.contracts.run import Home, RunLayout
from finetune.tracking.home_store import HomeStore
from finetune.tracking.jsonl import parse
from finetune.tracking.mlflow import server_of
from finetune.tracking.place import StorePlace
from finetune.tracking.server_store import ServerStore

INTENTS = {"promoting": PROMOTED, "rolling back": ROLLED_BACK}
ABANDONED = "abandoned"
HEAD_TAG = "finetune.record."
MAX_TRIES = 5
SERVER_HINT = "Start that server again, then type the same: what it recorded is registered there alone."


@dataclass(frozen=True, slots=True)
class Registry:
    """A registered model's aliases in a store. client is that of place."""

    place: StorePlace
    client: Any
    name: str

    def version_of(self, alias: str) -> str:
        """The version that an alias points to, "" for none."""
        with self.place.errors():
            return str(self.client.get_registered_model(self.name).aliases.get(alias, ""))

    def adapter_of(self, alias: str) -> str:
        """The id of the adapter that an alias points to, "" where it points to none."""
        version = self.version_of(alias)
        if not version:
            return ""
        with self.place.errors():
            return str(self.client.get_model_version(self.name, version).tags.get("adapter_id", ""))

    def check_head(self, entries: Sequence[Entry]) -> None:
        """Raise RunError where the store remembers a newer entry than the record has."""
        with self.place.errors():
            tags = self.client.get_registered_model(self.name).tags
        home = entries[0].digest[:12] if entries else ""
        for key, value in tags.items():
            # a server may hold the heads of other homes, too
            if not key.startswith(HEAD_TAG) or (key != HEAD_TAG + home and self.place.server):
                continue
            number, _, digest = value.partition(":")
            if len(entries) < int(number) or entries[int(number) - 1].digest != digest:
                raise RunError(
                    f"The record was cut off or replaced: {self.name} remembers entry {number} with digest "
                    f"{digest[:12]}, the record has {len(entries)} entries.",
                    "Put the record back from a copy.",
                )

    def remember_head(self, record: OpenChain) -> None:
        """Put the newest entry's digest into the store."""
        head, first = record.entries[-1], record.entries[0]
        with self.place.errors():
            self.client.set_registered_model_tag(
                self.name, HEAD_TAG + first.digest[:12], f"{head.sequence}:{head.digest}"
            )

    def settle(self, record: OpenChain) -> None:
        """End what a killed command began."""
        last = next((entry for entry in reversed(record.entries) if _is_step(entry, self.name)), None)
        if last is None or last.kind not in INTENTS:
            return
        done = self.version_of(last.text("alias")) == last.text("to")
        record.append(INTENTS[last.kind] if done else ABANDONED, {**last.body, "settled": last.sequence})
        self.remember_head(record)

    def move(self, record: OpenChain, *, alias: str, to: str, kind: str, body: Mapping[str, JsonValue]) -> Entry:
        """Point alias at version to and record it; kind is an intent. Raises MachineError if others keep moving it."""
        for _ in range(MAX_TRIES):
            before = self.version_of(alias)
            steps: dict[str, JsonValue] = {"model": self.name, "alias": alias, "from": before, "to": to, **body}
            record.append(kind, steps)
            if self._set(alias, expected=before, to=to):
                entry = record.append(INTENTS[kind], steps)
                self.remember_head(record)
                return entry
            record.append(ABANDONED, steps)
        raise MachineError(f"The alias {alias} of {self.name} is being moved elsewhere.", "Try again later.")

    def aliases_of(self, version: str) -> tuple[LivePlace, ...]:
        """All aliases that point at a version now, also those that were set by hand."""
        with self.place.errors():
            aliases = self.client.get_registered_model(self.name).aliases
        return tuple(LivePlace(self.name, alias) for alias in sorted(aliases) if str(aliases[alias]) == version)

    def take(self, alias: str) -> None:
        """Let an alias point nowhere."""
        with self.place.errors():
            self.client.delete_registered_model_alias(self.name, alias)

    def tag(self, version: str, tags: Mapping[str, str], *, notice: str) -> None:
        """Write tags at a version, and notice as the first line of its description; doing it again changes nothing."""
        with self.place.errors():
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, version, key, value)
            known = self.client.get_model_version(self.name, version).description or ""
            if not known.startswith(notice):
                self.client.update_model_version(self.name, version, description=f"{notice}\n\n{known}".strip())

    def _set(self, alias: str, *, expected: str, to: str) -> bool:
        if self.version_of(alias) != expected:
            return False
        with self.place.errors():
            self.client.set_registered_model_alias(self.name, alias, to)
        return self.version_of(alias) == to


def versions_before(entries: Sequence[Entry], *, model: str, alias: str) -> list[Entry]:
    """The promotions that were in force before the newest one by the record, the last of them first."""
    stack: list[Entry] = []
    for entry in entries:
        if entry.text("model") != model or entry.text("alias") != alias:
            continue
        if entry.kind == PROMOTED:
            stack.append(entry)
        elif entry.kind == ROLLED_BACK and stack:
            stack.pop()
            # a rollback goes further than one step where versions between were withdrawn
            while stack and stack[-1].text("to") != entry.text("to"):
                stack.pop()
    return stack[-2::-1]


def registry_of(home: Home, name: str, *, server: str | None) -> Registry:
    """The registered model of that name, in the home's store or, by its address, at a server.

    Raises MachineError when the store is away, RunError when it knows no such model.
    """
    place = ServerStore(server, hint=SERVER_HINT) if server else HomeStore(home)
    client = place.client()
    with place.errors():
        known = sorted(model.name for model in client.search_registered_models())
    if name not in known:
        raise RunError(
            f"No model called {name} is registered; there are {', '.join(known) or 'none'}.",
            "`finetune adapter list` names the model of each adapter.",
        )
    return Registry(place, client, name)


def versions_of(home: Home, *, adapter_id: str, weights: str, run_id: str) -> list[tuple[Registry, str]]:
    """Where an adapter is registered: registered models and versions, the newest first; weights is a digest.

    The store is that of its run. Raises MachineError when it cannot be used.
    """
    journal = RunLayout(home.runs / run_id).journal
    server = server_of(parse(journal.read_bytes())) if journal.is_file() else None
    if server is None and not home.tracking_database.is_file():
        return []
    place = ServerStore(server, hint=SERVER_HINT) if server else HomeStore(home)
    client = place.client()
    with place.errors():
        found = client.search_model_versions(f"tags.adapter_id = '{adapter_id}'")
    fitting = [one for one in found if one.tags.get("weights_digest") == weights[:12]]
    newest = sorted(fitting, key=lambda one: int(one.version), reverse=True)
    return [(Registry(place, client, str(one.name)), str(one.version)) for one in newest]


def _is_step(entry: Entry, model: str) -> bool:
    return entry.text("model") == model and entry.kind in (*INTENTS, *INTENTS.values(), ABANDONED)
