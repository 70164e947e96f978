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
        # only an engine that can leave its card has a reason to tell
        reason = getattr(service.engine, "away", None)
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    return router
