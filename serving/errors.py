"""Refusals of the endpoint, each with its HTTP status and OpenAI's machine-readable code."""

from finetune.contracts.errors import AdapterError, InputError, MachineError


class RequestError(InputError):
    """A request asks for something that this endpoint does not do; param names the field, None when there is none."""

    def __init__(
        self, message: str, hint: str = "", *, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message, hint)
        self.param = param
        self.code = code
        self.status = status


class AdapterMissingError(AdapterError):
    """There is no such adapter in the adapters folder, or none is served under that name."""

    status = 404
    code = "adapter_not_found"


class AdapterConflictError(AdapterError):
    """The adapter is whole, but does not go with what is served: another base, a name in use, no effect."""

    status = 409
    code = "adapter_conflict"


class BusyError(MachineError):
    """As many requests wait as may; retry_after_seconds is when a place is likely to be free."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, *, num_waiting: int, retry_after_seconds: int) -> None:
        super().__init__(f"The server has {num_waiting} requests to answer already.", "Try again shortly.")
        self.retry_after_seconds = retry_after_seconds


class EngineError(MachineError):
    """The engine could not answer, or is stopping."""

    status = 503
    code = "engine_unavailable"


class HungUpError(EngineError):
    """The client left before its answer was whole. Nobody reads it; the status is the one that proxies log for it."""

    status = 499
    code = "client_closed_request"
