"""What was asked and how fast it was answered, counted by route and by served name, never by a client's own words."""

from collections.abc import AsyncIterator
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune.contracts.errors import PlatformError
from serving.adapters.registry import AdapterRegistry
from serving.engines.base import Delta, Generation

# Names with series of their own; those beyond share one. No name can be spelt as these two are
MAX_ALIASES = 100
OTHER = "(other)"
NO_ROUTE = "(none)"
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BETWEEN_TOKENS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
INTERNAL_ERROR = 500


class ServiceMeasures:
    """Counters and histograms of one application. Series of a name that is no longer served go with forget_gone."""

    def __init__(self, registry: AdapterRegistry) -> None:
        self._registry = registry
        self._named: set[str] = set()
        self.requests = Counter(
            "finetune_http_requests", "Requests by route and HTTP status.", ["route", "status"], registry=None
        )
        self.answers = Counter(
            "finetune_answers",
            "Answers by how they ended: stop, length, tool_calls, cancelled by the client or its time limit, failed.",
            ["alias", "outcome"],
            registry=None,
        )
        self.first_token_seconds = Histogram(
            "finetune_time_to_first_token_seconds",
            "Seconds from a request's coming to an answer's first token, with the waiting.",
            ["alias"],
            buckets=FIRST_TOKEN_BUCKETS,
            registry=None,
        )
        self.between_tokens_seconds = Histogram(
            "finetune_inter_token_seconds",
            "Seconds between one token of an answer and the next.",
            ["alias"],
            buckets=BETWEEN_TOKENS_BUCKETS,
            registry=None,
        )
        self.prompt_tokens = Counter(
            "finetune_prompt_tokens", "Tokens of the prompts of accepted requests.", ["alias"], registry=None
        )
        self.completion_tokens = Counter(
            "finetune_completion_tokens", "Tokens that were generated.", ["alias"], registry=None
        )
        self.malformed_calls = Counter(
            "finetune_malformed_calls",
            "What began as a call of a tool, is none, and went out as text.",
            ["alias"],
            registry=None,
        )

    @property
    def by_alias(self) -> tuple[Counter | Histogram, ...]:
        """Those with a label of a served name."""
        return (
            self.answers,
            self.first_token_seconds,
            self.between_tokens_seconds,
            self.prompt_tokens,
            self.completion_tokens,
            self.malformed_calls,
        )

    def alias(self, name: str) -> str:
        """The label for name: itself while it is served, as long as there are not too many."""
        if not self._registry.serves(name):
            return OTHER
        if name not in self._named:
            # names may have come and gone since the last reading
            self.forget_gone()
            if len(self._named) >= MAX_ALIASES:
                return OTHER
            self._named.add(name)
        return name

    def forget_gone(self) -> None:
        """Drop the series of names that are not served any more."""
        for name in [one for one in self._named if not self._registry.serves(one)]:
            self._named.remove(name)
            for measure in self.by_alias:
                measure.remove_by_labels({"alias": name})


class MeasuredGeneration:
    """A generation whose deltas are measured as they pass. asked_at is in seconds of the monotonic clock."""

    def __init__(self, generation: Generation, measures: ServiceMeasures, *, model: str, asked_at: float) -> None:
        self._generation = generation
        self._measures = measures
        self._model = model
        self._asked_at = asked_at
        self._last_at: float | None = None
        self._ended = False

    @property
    def num_prompt_tokens(self) -> int:
        """See Generation."""
        return self._generation.num_prompt_tokens

    @property
    def num_cached_tokens(self) -> int:
        """See Generation."""
        return self._generation.num_cached_tokens

    @property
    def truncated(self) -> bool:
        """See Generation."""
        return self._generation.truncated

    async def __aiter__(self) -> AsyncIterator[Delta]:
        try:
            async for delta in self._generation:
                self._measure(delta)
                yield delta
        except PlatformError:
            self._end("failed")
            raise

    def cancel(self) -> None:
        """See Generation."""
        self._end("cancelled")
        self._generation.cancel()

    def fail(self, error: PlatformError) -> None:
        """See Generation."""
        self._end("failed")
        self._generation.fail(error)

    def _measure(self, delta: Delta) -> None:
        alias = self._measures.alias(self._model)
        if self._last_at is None:
            self._measures.first_token_seconds.labels(alias).observe(delta.made_at - self._asked_at)
        else:
            self._measures.between_tokens_seconds.labels(alias).observe(delta.made_at - self._last_at)
        self._last_at = delta.made_at
        self._measures.completion_tokens.labels(alias).inc(delta.num_tokens)
        if delta.num_malformed_calls:
            self._measures.malformed_calls.labels(alias).inc(delta.num_malformed_calls)
        if delta.finish_reason:
            self._end(delta.finish_reason)

    def _end(self, outcome: str) -> None:
        if not self._ended:
            self._ended = True
            self._measures.answers.labels(self._measures.alias(self._model), outcome).inc()


class RequestCount:
    """Count every HTTP request by its route's template and the status that it got, refusals before the routes too."""

    def __init__(self, app: ASGIApp, *, requests: Counter) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count when the answer begins, or when there is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = False

        def count(status: int) -> None:
            nonlocal counted
            if not counted:
                counted = True
                self._requests.labels(_route(scope), status).inc()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # what no handler caught is answered with this status further out
            count(INTERNAL_ERROR)


def _route(scope: Scope) -> str:
    route: Any = scope.get("route")
    return getattr(route, "path", NO_ROUTE)
