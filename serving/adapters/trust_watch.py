"""What is revoked while it is served is taken off."""

import asyncio
import logging

from serving.adapters.registry import AdapterRegistry
from serving.errors import AdapterUntrustedError

LOGGER = logging.getLogger("serving")
LOOK_SECONDS = 2.0


class TrustWatch:
    """Holds what registry serves against the policy, again and again while run runs. Without one nothing happens."""

    def __init__(self, registry: AdapterRegistry, *, every_seconds: float = LOOK_SECONDS) -> None:
        self._registry = registry
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                for problem in await self._registry.distrust():
                    LOGGER.error("Served no more: %s", problem)
            except AdapterUntrustedError:
                # the policy cannot be read, which the store has told
                pass
            except Exception:
                # one that fails to look must not end all looks
                LOGGER.exception("what is served was not held against the policy")
            await asyncio.sleep(self._every_seconds)
