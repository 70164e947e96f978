"""Refusals of the endpoint, each with its HTTP status and OpenAI's machine-readable code."""

from finetune.contracts.errors import AdapterError, InputError, MachineError, RecipeError


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


class AdapterUntrustedError(AdapterError):
    """The adapter is not signed by a key that this server trusts, or it or its key was revoked."""

    status = 403
    code = "adapter_not_trusted"


class KeyRefusedError(InputError):
    """A request brought no key, or none that is valid now; which of these it is, is not told.

    reason, caller and key_id are for the log of the home: why, and whose key it would be.
    """

    status = 401
    code = "invalid_api_key"

    def __init__(self, reason: str = "no key", *, caller: str = "", key_id: str = "") -> None:
        super().__init__(
            "No valid API key was given.",
            "Send one as 'Authorization: Bearer ...'; `finetune serve key create` makes one.",
        )
        self.reason = reason
        self.caller = caller
        self.key_id = key_id


class ScopeError(InputError):
    """The key is valid, but not for this."""

    status = 403
    code = "insufficient_scope"


class AccessError(InputError):
    """A server that was asked from the command line wants another key."""


class KeyFileError(InputError):
    """The file of keys is damaged, or holds no key of that name."""


class IdentityFileError(RecipeError):
    """The file that says which tokens of an identity provider are let in has mistakes."""


class NamesFileError(RecipeError):
    """The file that says for which groups names are has mistakes."""


class IssuerError(MachineError):
    """The keys that an identity provider signs with cannot be had; only the server's log says so."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "Tokens are checked with the keys that are known, while these are new enough.")


class IssuerUnavailableError(MachineError):
    """Nobody can say now whether a token is good: the identity provider could not be asked for too long."""

    status = 503
    code = "identity_provider_unavailable"
    retry_after_seconds = 30

    def __init__(self) -> None:
        super().__init__("The identity provider cannot be reached.", "Ask again later, or use a key.")


class UsageFileError(InputError):
    """The file of the tokens that were used today is damaged."""


class BusyError(MachineError):
    """As many requests wait as may; retry_after_seconds is when a place is likely to be free."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, *, num_waiting: int, retry_after_seconds: int) -> None:
        super().__init__(f"The server has {num_waiting} requests to answer already.", "Try again shortly.")
        self.retry_after_seconds = retry_after_seconds


class RateError(MachineError):
    """A key has asked as often as it may; retry_after_seconds is when it may again."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, *, requests_per_minute: int, retry_after_seconds: int) -> None:
        super().__init__(f"This key may ask {requests_per_minute} times a minute.", "Wait, or use another key.")
        self.retry_after_seconds = retry_after_seconds


class QuotaError(MachineError):
    """A key has used what it may; retry_after_seconds is when it may again, code which limit it was."""

    status = 429

    def __init__(self, message: str, *, code: str, retry_after_seconds: int) -> None:
        super().__init__(message, "Wait, or use another key.")
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class AuditError(MachineError):
    """The log of who asked what cannot be written, and what was asked is not done without an entry in it."""

    status = 503
    code = "audit_unavailable"
    retry_after_seconds = 30

    def __init__(self) -> None:
        super().__init__("The server cannot write its log of requests.", "Ask again later; its operator knows why.")


class EngineError(MachineError):
    """The engine could not answer, or is stopping."""

    status = 503
    code = "engine_unavailable"


class AwayError(EngineError):
    """The engine has left its card to another job; nobody knows when that ends, so retry_after_seconds is a guess."""

    code = "card_in_use"
    retry_after_seconds = 30

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "Ask again later.")


class HungUpError(EngineError):
    """The client left before its answer was whole. Nobody reads it; the status is the one that proxies log for it."""

    status = 499
    code = "client_closed_request"
