"""Promote an adapter past the gate, or go back to the version before; both are recorded."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from finetune.adapters.find import find_usable
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import PROMOTED, Chain, Entry, OpenChain, withdrawn_weights
from finetune.contracts.errors import AdapterError, GateError, RunError
from finetune.contracts.io import digest_json
from finetune.contracts.run import Home, RunLayout
from finetune.contracts.trust import TrustFile, check_trusted
from finetune.contracts.withdrawal import HINT as WITHDRAWN_HINT
from finetune.release.evidence import Load, Recompute, read_evidence
from finetune.release.gate import GateVerdict, judge, load_gate
from finetune.release.registry import Registry, versions_before, versions_of
from finetune.terminal.output import note

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

    Raises GateError with all reasons when the gate says no, SignatureError for an adapter that the home's policy does
    not take; nothing is changed then.
    """
    config = load_gate(gate)
    manifest = _trusted(home, find_usable(home, adapter))
    registry, version = registered(home, manifest)
    with chain_of(home).open() as record:
        if manifest.digests.weights in withdrawn_weights(record.entries):
            raise AdapterError(f"{manifest.adapter_id} was withdrawn, as the record says.", WITHDRAWN_HINT)
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

    model "": the one whose alias was moved last. Versions that were withdrawn are passed over, with a note. Raises
    RunError where the record knows no version before, AdapterError where all of those were withdrawn.
    """
    with chain_of(home).open() as record:
        moved = [entry for entry in record.entries if entry.kind == PROMOTED and entry.text("alias") == wish.alias]
        named = model or (moved[-1].text("model") if moved else "")
        if not any(entry.text("model") == named for entry in moved):
            raise RunError(f"The record knows no {wish.alias} to go back from.", "See `finetune adapter history`.")
        _, manifest = _before(home, record, named, wish=wish)
        registry, _ = registered(home, manifest, named)
        registry.check_head(record.entries)
        registry.settle(record)
        # what was settled may have been a move
        before, manifest = _before(home, record, named, wish=wish)
        body: dict[str, JsonValue] = {
            "adapter_id": manifest.adapter_id,
            "weights": manifest.digests.weights,
            "who": wish.who,
            "why": wish.why,
        }
        return registry.move(record, alias=wish.alias, to=before.text("to"), kind="rolling back", body=body)


def _before(home: Home, record: OpenChain, model: str, *, wish: Wish) -> tuple[Entry, AdapterManifest]:
    """The promotion to go back to, and its adapter, whole."""
    before = versions_before(record.entries, model=model, alias=wish.alias)
    if not before:
        raise RunError(f"{model} had no {wish.alias} before this one.", "See `finetune adapter history`.")
    withdrawn = withdrawn_weights(record.entries)
    usable = [entry for entry in before if entry.text("weights") not in withdrawn]
    if not usable:
        names = ", ".join(dict.fromkeys(entry.text("adapter_id") for entry in before))
        raise AdapterError(f"All that was {wish.alias} of {model} before was withdrawn: {names}.", WITHDRAWN_HINT)
    for passed in before[: before.index(usable[0])]:
        note(f"{passed.text('adapter_id')}, version {passed.text('to')}, was withdrawn and is passed over.")
    return usable[0], _trusted(home, find_usable(home, usable[0].text("adapter_id")))


def _trusted(home: Home, folder: Path) -> AdapterManifest:
    """The adapter in folder, whole, and one that the home's policy takes, where it has one."""
    manifest = verify_adapter(folder, None)
    check_trusted(TrustFile(home.trust), folder, manifest)
    return manifest


def registered(home: Home, manifest: AdapterManifest, model: str = "") -> tuple[Registry, str]:
    """The registered model that holds an adapter, and its version there; model "": any. Raises RunError without one."""
    weights = manifest.digests.weights
    found = versions_of(home, adapter_id=manifest.adapter_id, weights=weights, run_id=manifest.run_id)
    fitting = [one for one in found if model in ("", one[0].name)]
    if not fitting:
        raise RunError(f"{manifest.adapter_id} is not in the registry.", REGISTER_HINT)
    return fitting[0]
