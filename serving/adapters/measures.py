"""What happened to the adapters of one registry: counters and histograms, in no list of the whole process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from prometheus_client import Counter, Histogram
from prometheus_client.context_managers import Timer

from finetune.contracts.errors import AdapterError, PlatformError
from serving.errors import AdapterConflictError, AdapterMissingError, AdapterUntrustedError, RequestError

Phase = Literal["check", "fetch", "attach", "probe"]
PHASES: tuple[Phase, ...] = ("check", "fetch", "attach", "probe")
LOAD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DRAIN_BUCKETS = (0.01, 0.1, 1, 5, 15, 30, 60, 120, 300, 600)
REASONS: dict[type[PlatformError], str] = {
    AdapterMissingError: "missing",
    AdapterConflictError: "conflict",
    AdapterUntrustedError: "untrusted",
    AdapterError: "invalid",
    RequestError: "request",
    PlatformError: "engine",
}


class AdapterMeasures:
    """load_seconds has a load's phases, those of refused loads too: check digests the files, fetch copies them, attach
    brings the factors to the device, probe asks the reference prompt. cut_off counts requests whose time to finish was
    over.
    """

    def __init__(self) -> None:
        self.load_seconds = Histogram(
            "finetune_adapter_load_seconds",
            "Seconds that each phase of loading an adapter took.",
            ["phase"],
            buckets=LOAD_BUCKETS,
            registry=None,
        )
        self.refusals = Counter(
            "finetune_adapter_refusals", "Loads that were refused, by kind of reason.", ["reason"], registry=None
        )
        self.evictions = Counter(
            "finetune_adapter_evictions", "Adapters kept for going back that made room for others.", registry=None
        )
        self.moves = Counter(
            "finetune_alias_moves", "Names that came to stand for another adapter.", ["kind"], registry=None
        )
        self.drain_seconds = Histogram(
            "finetune_adapter_drain_seconds",
            "Seconds from an adapter's end for new requests to the end of its last one.",
            buckets=DRAIN_BUCKETS,
            registry=None,
        )
        self.cut_off = Counter(
            "finetune_adapter_drain_cut_off_requests",
            "Requests ended with an error because their adapter's time to drain was over.",
            registry=None,
        )
        self._begin_at_zero()

    @property
    def all(self) -> tuple[Counter | Histogram, ...]:
        """Each of them, for one Prometheus registry."""
        return self.load_seconds, self.refusals, self.evictions, self.moves, self.drain_seconds, self.cut_off

    def timed(self, phase: Phase) -> Timer:
        """Measure a block as that phase."""
        return self.load_seconds.labels(phase).time()

    @asynccontextmanager
    async def count_refusals(self) -> AsyncIterator[None]:
        """Count the error that ends the block, by the first of REASONS that it is."""
        try:
            yield
        except PlatformError as error:
            self.refusals.labels(next(name for kind, name in REASONS.items() if isinstance(error, kind))).inc()
            raise

    def _begin_at_zero(self) -> None:
        # A series that first appears with its first event hides that event from a rate
        for phase in PHASES:
            self.load_seconds.labels(phase)
        for reason in REASONS.values():
            self.refusals.labels(reason)
        for kind in ("move", "rollback"):
            self.moves.labels(kind)
