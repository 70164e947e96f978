"""A connection on which a request must come whole within a time, and where nonsense in a body ends its request.

uvicorn waits without end for the rest of a request, and tells the application nothing of one whose body cannot be read.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# for a body of several megabytes over a slow line; who sends a letter a minute keeps nobody's place
READ_SECONDS = 60.0


class BoundedConnection(H11Protocol):
    """uvicorn's connection over h11, with both."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the rest of a body that was refused."""
        self._wait()
        super().on_response_complete()

    def handle_events(self) -> None:
        """Read what came; an answer to a whole request may take as long as it does."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP; a request that it is in the middle of has lost its client."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        super().send_400_response(msg)

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(READ_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        # what is left to send has nobody who reads it
        self.transport.abort()
