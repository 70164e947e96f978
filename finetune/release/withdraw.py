"""Withdraw adapters: no alias points at them, the registry and the record say why, and nothing here takes them again.

An adapter takes these steps, each of which may be the last before a kill; the same command ends what one began:
"withdrawing" is recorded, the mark is written, the endpoint unloads it, its aliases are taken, its versions are tagged,
"withdrawn" is recorded. Marks come before all else that can fail, so that nothing is loaded anew meanwhile.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from finetune.contracts.chain import WITHDRAWING, WITHDRAWN, Entry, LivePlace, OpenChain, live_places
from finetune.contracts.errors import AdapterError, MachineError
from finetune.contracts.run import Home
from finetune.contracts.withdrawal import WithdrawnMark, read_mark, write_mark
from finetune.release.promote import chain_of
from finetune.release.receipt import FoundAdapter, WithdrawnAdapter
from finetune.release.registry import Registry, versions_of

REASON_TAG, ENTRY_TAG = "withdrawn", "withdrawn_entry"
# names under which an endpoint served adapters of these weights, and serves them no more, by weights
Unload = Callable[[Collection[str]], Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Why:
    """Who withdraws, and the reason, both as the record keeps them for ever: without names of persons."""

    who: str
    reason: str


def withdraw(home: Home, adapters: Sequence[FoundAdapter], *, why: Why, unload: Unload) -> list[WithdrawnAdapter]:
    """Withdraw all of these; one that was withdrawn before is looked at again, and stays as it was recorded.

    Raises MachineError when a store or the endpoint cannot be asked: all are marked by then, and the same call ends it.
    Raises RunError where the record does not hold; nothing is changed then.
    """
    with chain_of(home).open() as record:
        places, away = _places(home, record, adapters)
        intents = [_begin(home, record, adapter, why=why) for adapter in adapters]
        unloaded = unload([adapter.weights for adapter in adapters])
        if away is not None:
            names = ", ".join(adapter.adapter_id for adapter in adapters)
            raise MachineError(
                f"{away.message} {names}: marked as withdrawn in {home.root}, but aliases may still point there.",
                away.hint,
            )
        return [
            _end(record, adapter, intent=intent, places=found, unloaded=unloaded.get(adapter.weights, ()))
            for adapter, intent, found in zip(adapters, intents, places, strict=True)
        ]


Places = Sequence[tuple[Registry, str]]


def _places(
    home: Home, record: OpenChain, adapters: Sequence[FoundAdapter]
) -> tuple[list[Places], MachineError | None]:
    """Where each is registered, after the record was held against the registries; or why a registry cannot be asked."""
    found: list[Places] = []
    away: MachineError | None = None
    for adapter in adapters:
        try:
            places = versions_of(home, adapter_id=adapter.adapter_id, weights=adapter.weights, run_id=adapter.run_id)
            for registry, _ in places:
                registry.check_head(record.entries)
                registry.settle(record)
            found.append(places)
        except MachineError as error:
            away = error
    return found, away


def _begin(home: Home, record: OpenChain, adapter: FoundAdapter, *, why: Why) -> Entry:
    """Record the intent, unless there is one, and write the mark."""
    entry = _newest(record, WITHDRAWING, adapter) or record.append(WITHDRAWING, _body(record, adapter, why=why))
    mark = WithdrawnMark(
        adapter_id=adapter.adapter_id,
        weights=adapter.weights,
        who=entry.text("who"),
        reason=entry.text("why"),
        at=entry.at,
        entry=entry.digest,
    )
    if not _is_marked(home, mark):
        write_mark(home.adapters, mark)
    return entry


def _body(record: OpenChain, adapter: FoundAdapter, *, why: Why) -> dict[str, JsonValue]:
    live = live_places(record.entries).get(adapter.adapter_id, ())
    return {
        "adapter_id": adapter.adapter_id,
        "weights": adapter.weights,
        "dataset": adapter.dataset_digest,
        "certainty": adapter.certainty,
        "alias": _joined(live),
        "who": why.who,
        "why": why.reason,
    }


def _is_marked(home: Home, mark: WithdrawnMark) -> bool:
    try:
        return read_mark(home.adapters, mark.weights) == mark
    except AdapterError:
        return False


def _end(
    record: OpenChain, adapter: FoundAdapter, *, intent: Entry, places: Places, unloaded: Sequence[str]
) -> WithdrawnAdapter:
    """Take what points at it, tag it, and record the end, unless that is recorded and nothing pointed at it."""
    taken = _taken(places)
    for registry, version in places:
        tags = {REASON_TAG: intent.text("why"), ENTRY_TAG: intent.digest}
        registry.tag(version, tags, notice=f"**Withdrawn by {intent.text('who')}**: {intent.text('why')}")
    end = _newest(record, WITHDRAWN, adapter)
    if end is None or taken or unloaded:
        known = tuple(text for text in intent.text("alias").split(", ") if text)
        body: dict[str, JsonValue] = {
            **intent.body,
            "alias": ", ".join(dict.fromkeys((*(() if end else known), *map(str, taken)))),
            "from": ", ".join(f"{registry.name} {version}" for registry, version in places),
            "unloaded": ", ".join(unloaded),
            "intent": intent.digest,
        }
        end = record.append(WITHDRAWN, body)
    for registry in {registry.name: registry for registry, _ in places}.values():
        registry.remember_head(record)
    return WithdrawnAdapter(
        adapter_id=adapter.adapter_id,
        weights=adapter.weights,
        entry=end.digest,
        at=end.at,
        who=end.text("who"),
        aliases=end.text("alias"),
        versions=end.text("from"),
        unloaded=end.text("unloaded"),
    )


def _taken(places: Places) -> list[LivePlace]:
    taken = []
    for registry, version in places:
        for place in registry.aliases_of(version):
            registry.take(place.alias)
            taken.append(place)
    return taken


def _newest(record: OpenChain, kind: str, adapter: FoundAdapter) -> Entry | None:
    fitting = (entry for entry in reversed(record.entries) if entry.kind == kind)
    return next((entry for entry in fitting if entry.text("weights") == adapter.weights), None)


def _joined(places: Sequence[LivePlace]) -> str:
    return ", ".join(map(str, places))
