"""GET /livez: the process answers. GET /readyz: so does the model."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.api.service import Service


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/readyz")
    async def ready() -> JSONResponse:
        if service.engine.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    return router
