"""Load, move, roll back and unload adapters while the server answers, and list them: vLLM's two routes, and our own."""

from typing import Any

from fastapi import APIRouter

from serving.adapters.registry import Alias
from serving.adapters.versions import Version
from serving.api.service import Service
from serving.api.wire import (
    AdapterCard,
    AliasRequest,
    LoadAdapterRequest,
    RollbackRequest,
    SplitRequest,
    UnloadAdapterRequest,
    VersionCard,
)


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    registry = service.registry

    def card(alias: Alias) -> dict[str, Any]:
        return _alias_card(service, alias).body()

    @router.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapterRequest) -> dict[str, Any]:
        alias = await registry.load(body.lora_name, body.lora_path)
        return {"status": "loaded", "adapter": card(alias)}

    @router.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapterRequest) -> dict[str, Any]:
        await registry.unload(body.lora_name)
        return {"status": "unloaded", "name": body.lora_name}

    @router.post("/v1/adapters/alias")
    async def move(body: AliasRequest) -> dict[str, Any]:
        alias = await registry.load(body.alias, body.adapter, move=True)
        return {"status": "served", "adapter": card(alias)}

    @router.post("/v1/adapters/rollback")
    async def roll_back(body: RollbackRequest) -> dict[str, Any]:
        alias = await registry.rollback(body.alias)
        return {"status": "served", "adapter": card(alias)}

    @router.post("/v1/adapters/split")
    async def split(body: SplitRequest) -> dict[str, Any]:
        if body.to is None:
            return {"status": "served", "adapter": card(await registry.end_trial(body.alias))}
        alias = await registry.try_out(body.alias, body.to, share=body.weight)
        return {"status": "tried", "adapter": card(alias)}

    @router.get("/v1/adapters")
    async def list_adapters() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [card(alias) for alias in registry.served],
            "versions": [_version_card(version).body() for version in registry.versions],
            "available": registry.available(),
        }

    @router.get("/v1/adapters/{name}/history")
    async def history(name: str) -> dict[str, Any]:
        moves = registry.history(name)
        return {"object": "list", "data": [{"adapter_id": move.adapter_id, "at": move.at} for move in moves]}

    return router


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


def _version_card(version: Version) -> VersionCard:
    return VersionCard(
        adapter_id=version.adapter_id,
        state=version.state.value,
        loaded_at=version.loaded_at,
        num_active=version.num_active,
    )
