"""Load and unload adapters while the server answers: vLLM's two routes, and a list."""

from typing import Any

from fastapi import APIRouter

from serving.adapters.registry import ServedAdapter
from serving.api.service import Service
from serving.api.wire import AdapterCard, LoadAdapterRequest, UnloadAdapterRequest


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    registry = service.registry

    def card(adapter: ServedAdapter) -> dict[str, Any]:
        manifest = adapter.manifest
        return AdapterCard(
            name=adapter.name,
            adapter_id=manifest.adapter_id,
            base=registry.base_name,
            rank=manifest.rank,
            targets=list(manifest.targets),
            trained_on=manifest.quantization.value,
            served_on=service.engine.description.quantization.value,
            weights_digest=manifest.digests.weights,
            loaded_at=adapter.loaded_at,
            num_active=adapter.num_active,
        ).body()

    @router.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapterRequest) -> dict[str, Any]:
        adapter = await registry.load(body.lora_name, body.lora_path)
        return {"status": "loaded", "adapter": card(adapter)}

    @router.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapterRequest) -> dict[str, Any]:
        await registry.unload(body.lora_name)
        return {"status": "unloaded", "name": body.lora_name}

    @router.get("/v1/adapters")
    async def list_adapters() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [card(adapter) for adapter in registry.served],
            "available": registry.available(),
        }

    return router
