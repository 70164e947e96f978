"""Load, move, roll back and unload adapters while the server answers, and list them: vLLM's two routes, and our own.

A caller changes and sees its own names and adapters alone. Whether one that it does not see exists is not looked at.
"""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.access.scopes import Caller, Scope
from serving.adapters.aliases import Alias, Waiting, alias_missing
from serving.adapters.registry import AdapterRegistry
from serving.adapters.store import adapter_missing
from serving.adapters.versions import Version
from serving.api.auth import CallerOf
from serving.api.service import Service
from serving.api.wire import (
    AdapterCard,
    AliasRequest,
    LoadAdapterRequest,
    RollbackRequest,
    SplitRequest,
    UnloadAdapterRequest,
    VersionCard,
    WaitingCard,
)
from serving.errors import ScopeError


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    registry = service.registry

    def card(alias: Alias) -> dict[str, Any]:
        return _alias_card(service, alias).body()

    @router.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapterRequest, caller: CallerOf) -> JSONResponse:
        _check_sees(caller, registry, name=body.lora_name, adapter=body.lora_path)
        found = await registry.load(body.lora_name, body.lora_path)
        return _loaded(service, found, "loaded", caller=caller)

    @router.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapterRequest, caller: CallerOf) -> dict[str, Any]:
        _check_sees(caller, registry, name=body.lora_name)
        await registry.unload(body.lora_name)
        return {"status": "unloaded", "name": body.lora_name}

    @router.post("/v1/adapters/alias")
    async def move(body: AliasRequest, caller: CallerOf) -> JSONResponse:
        _check_sees(caller, registry, name=body.alias, adapter=body.adapter)
        in_use = any(alias.name == body.alias for alias in registry.served)
        what = f"Moving the name {body.alias!r}" if in_use else "Serving a new name"
        caller.need(Scope.PROMOTE if in_use else Scope.LOAD, what)
        # the name may come into use meanwhile
        found = await registry.load(body.alias, body.adapter, move=caller.may(Scope.PROMOTE))
        return _loaded(service, found, "served", caller=caller)

    @router.post("/v1/adapters/rollback")
    async def roll_back(body: RollbackRequest, caller: CallerOf) -> dict[str, Any]:
        _check_sees(caller, registry, name=body.alias)
        alias = await registry.rollback(body.alias)
        caller.record.answered = alias.current.adapter_id
        return {"status": "served", "adapter": card(alias)}

    @router.get("/v1/adapters")
    async def list_adapters(caller: CallerOf) -> dict[str, Any]:
        served = [alias for alias in registry.served if caller.sees(alias.name)]
        behind = {version.slot for alias in served for version in alias.versions()}
        versions = [one for one in registry.versions if one.slot in behind or caller.sees(one.adapter_id)]
        return {
            "object": "list",
            "data": [card(alias) for alias in served],
            "waiting": [_waiting_card(service, one).body() for one in registry.waiting if caller.sees(one.name)],
            "versions": [_version_card(version).body() for version in versions],
            "available": [adapter for adapter in registry.available() if caller.sees(adapter)],
        }

    @router.get("/v1/adapters/{name}/history")
    async def history(name: str, caller: CallerOf) -> dict[str, Any]:
        _check_sees(caller, registry, name=name)
        moves = registry.history(name)
        return {"object": "list", "data": [{"adapter_id": move.adapter_id, "at": move.at} for move in moves]}

    _add_split(router, service)
    return router


def _check_sees(caller: Caller, registry: AdapterRegistry, *, name: str, adapter: str | None = None) -> None:
    """Raise unless the caller sees the name and, where one is to be served under it, the adapter.

    An adapter is a second way to what a name hides, so both have to be seen. Who does not see all gives its id: a path
    could lead anywhere in the folder.
    """
    caller.record.model, caller.record.adapter = name, adapter or ""
    if caller.sees_all:
        return
    if not caller.sees(name):
        if adapter is None:
            raise alias_missing(name)
        patterns = ", ".join(caller.adapters) or "none"
        raise ScopeError(f"This key serves under names of these patterns: {patterns}.", "Choose such a name.")
    if adapter is not None and not (caller.sees(adapter) and adapter in registry.available()):
        raise adapter_missing(adapter)


def _add_split(router: APIRouter, service: Service) -> None:
    registry = service.registry

    @router.post("/v1/adapters/split")
    async def split(body: SplitRequest, caller: CallerOf) -> dict[str, Any]:
        _check_sees(caller, registry, name=body.alias, adapter=body.to)
        if body.to is None:
            return {"status": "served", "adapter": _alias_card(service, await registry.end_trial(body.alias)).body()}
        alias = await registry.try_out(body.alias, body.to, share=body.weight)
        return {"status": "tried", "adapter": _alias_card(service, alias).body()}


def _alias_card(service: Service, alias: Alias) -> AdapterCard:
    adapter, manifest = alias.current, alias.current.manifest
    return AdapterCard(
        name=alias.name,
        adapter_id=adapter.adapter_id,
        previous=alias.previous.adapter_id if alias.previous else None,
        tried=alias.trial.version.adapter_id if alias.trial else None,
        share=alias.trial.share if alias.trial else None,
        base=service.registry.base_name,
        rank=manifest.rank,
        targets=list(manifest.targets),
        trained_on=manifest.quantization.value,
        served_on=service.engine.description.quantization.value,
        weights_digest=manifest.digests.weights,
        loaded_at=adapter.loaded_at,
        num_active=adapter.num_active,
    )


def _loaded(service: Service, found: Alias | Waiting, done: str, *, caller: Caller) -> JSONResponse:
    """done is what is said of an adapter that is served; status 202 of one that waits."""
    caller.record.answered = found.adapter_id if isinstance(found, Waiting) else found.current.adapter_id
    if isinstance(found, Waiting):
        document = {"status": "waiting", "adapter": _waiting_card(service, found).body()}
        return JSONResponse(document, status_code=HTTPStatus.ACCEPTED)
    return JSONResponse({"status": done, "adapter": _alias_card(service, found).body()})


def _waiting_card(service: Service, waiting: Waiting) -> WaitingCard:
    return WaitingCard(
        name=waiting.name,
        adapter_id=waiting.adapter_id,
        previous=waiting.previous.current.adapter_id if waiting.previous else None,
        base=service.registry.base_name,
    )


def _version_card(version: Version) -> VersionCard:
    return VersionCard(
        adapter_id=version.adapter_id,
        state=version.state.value,
        loaded_at=version.loaded_at,
        num_active=version.num_active,
    )
