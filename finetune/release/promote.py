"""Promote an adapter past the gate, or go back to the version before; both are recorded."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from finetune.adapters.find import find_adapter
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import Chain, Entry
from finetune.contracts.errors import GateError, RunError
from finetune.contracts.io import digest_json
from finetune.contracts.run import Home, RunLayout
from finetune.release.evidence import Load, Recompute, read_evidence
from finetune.release.gate import GateVerdict, judge, load_gate
from finetune.release.registry import Registry, version_before
from finetune.terminal.output import note
from finetune.tracking.jsonl import parse
from finetune.tracking.mlflow import place_of, server_of

REGISTER_HINT = "`finetune evaluate` registers an adapter; `finetune runs list` records what a store missed."


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants which alias moved, and why; why may be ""."""

    alias: str
    who: str
    why: str


def chain_of(home: Home) -> Chain:
    """The record of a home."""
    return Chain(home.releases, notice=note)


def promote(
    home: Home, adapter: str, *, wish: Wish, report: Path | None, gate: Path | None, load: Load, recompute: Recompute
) -> tuple[Entry, GateVerdict]:
    """Point the alias at the adapter. report None: the newest one of its run; gate None: the shipped one.

    Raises GateError with all reasons when the gate says no; nothing is changed then.
    """
    config = load_gate(gate)
    manifest = verify_adapter(find_adapter(home, adapter), None)
    registry, version = registered(home, manifest)
    with chain_of(home).open() as record:
        registry.check_head(record.entries)
        registry.settle(record)
        folder = report or RunLayout(home.runs / manifest.run_id).evaluation
        found, digest = read_evidence(folder, manifest, entries=record.entries, load=load, recompute=recompute)
        verdict = judge(found, config)
        if not verdict.passed:
            reasons = "\n".join(f"  {reason}" for reason in verdict.reasons)
            raise GateError(
                f"The gate says no to {manifest.adapter_id}:\n{reasons}", "Train or evaluate further, or see --gate."
            )
        body: dict[str, JsonValue] = {
            "adapter_id": manifest.adapter_id,
            "weights": manifest.digests.weights,
            "who": wish.who,
            "why": wish.why,
            "report": digest,
            "gate": digest_json(config),
            "warnings": [str(warning) for warning in verdict.warnings],
        }
        return registry.move(record, alias=wish.alias, to=version, kind="promoting", body=body), verdict


def roll_back(home: Home, model: str, *, wish: Wish) -> Entry:
    """Point the alias of a model back at the version before, whose adapter must be whole.

    model "": the one whose alias was moved last. Raises RunError where the record knows no version before.
    """
    with chain_of(home).open() as record:
        moved = [entry for entry in record.entries if entry.kind == "promoted" and entry.text("alias") == wish.alias]
        named = model or (moved[-1].text("model") if moved else "")
        newest = next((entry for entry in reversed(moved) if entry.text("model") == named), None)
        if newest is None:
            raise RunError(f"The record knows no {wish.alias} to go back from.", "See `finetune adapter history`.")
        registry, _ = registered(home, verify_adapter(find_adapter(home, newest.text("adapter_id")), None))
        registry.check_head(record.entries)
        registry.settle(record)
        before = version_before(record.entries, model=named, alias=wish.alias)
        if before is None:
            raise RunError(f"{named} had no {wish.alias} before this one.", "See `finetune adapter history`.")
        manifest = verify_adapter(find_adapter(home, before.text("adapter_id")), None)
        body: dict[str, JsonValue] = {
            "adapter_id": manifest.adapter_id,
            "weights": manifest.digests.weights,
            "who": wish.who,
            "why": wish.why,
        }
        return registry.move(record, alias=wish.alias, to=before.text("to"), kind="rolling back", body=body)


def registered(home: Home, manifest: AdapterManifest) -> tuple[Registry, str]:
    """The registry that holds an adapter, and its version there. Raises RunError where it is not registered."""
    journal = RunLayout(home.runs / manifest.run_id).journal
    place = place_of(home, server_of(parse(journal.read_bytes())) if journal.is_file() else None)
    client = place.client()
    with place.errors():
        found = client.search_model_versions(f"tags.adapter_id = '{manifest.adapter_id}'")
    fitting = [one for one in found if one.tags.get("weights_digest") == manifest.digests.weights[:12]]
    if not fitting:
        raise RunError(f"{manifest.adapter_id} is not in the registry.", REGISTER_HINT)
    newest = max(fitting, key=lambda one: int(one.version))
    return Registry(place, client, str(newest.name)), str(newest.version)
