"""GET /metrics: what to watch and to be woken by, in Prometheus' text format. Its lists are one application's own."""

from collections import Counter
from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.access.audit import AuditLog
from serving.adapters.versions import VersionState
from serving.api.measures import MAX_ALIASES
from serving.api.service import Service


def routes(service: Service, audit: AuditLog | None) -> APIRouter:
    """The routes of this module. audit None: there is no log of requests to watch."""
    router = APIRouter()
    collected = CollectorRegistry()
    measures, adapters = service.measures, service.registry.measures
    for measure in (measures.requests, *measures.by_alias, *adapters.all):
        collected.register(measure)
    collected.register(_Now(service, audit))
    ProcessCollector(registry=collected)

    @router.get("/metrics")
    async def metrics() -> Response:
        measures.forget_gone()
        return Response(generate_latest(collected), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


class _Now(Collector):
    """What is read at the moment of asking, so that what is gone is not shown."""

    def __init__(self, service: Service, audit: AuditLog | None) -> None:
        self._service = service
        self._audit = audit

    def collect(self) -> Iterable[Metric]:
        """The engine's gauges, then those of names and versions."""
        yield from self._engine()
        yield from self._adapters()
        if self._audit:
            text = "1 while the log of who asked what can be written."
            yield _gauge("finetune_audit_log_written", text, self._audit.is_written)

    def _engine(self) -> Iterable[Metric]:
        engine = self._service.engine
        occupancy = engine.occupancy
        yield _gauge("finetune_engine_ready", "1 when requests can be answered.", engine.ready)
        yield _gauge("finetune_requests_waiting", "Requests nobody has begun to read.", occupancy.num_waiting)
        yield _gauge("finetune_requests_running", "Requests that are read or answered together.", occupancy.num_running)
        yield _gauge("finetune_adapter_bytes", "Memory held for adapters, in bytes.", occupancy.adapter_bytes)

    def _adapters(self) -> Iterable[Metric]:
        registry = self._service.registry
        states = Counter(version.state for version in registry.versions)
        adapters = GaugeMetricFamily("finetune_adapters", "Adapters in memory by state.", labels=["state"])
        for state in VersionState:
            adapters.add_metric([state.value], states[state])
        yield adapters
        # an adapter may be there twice: one that drains and one that was loaded since
        active: Counter[str] = Counter()
        for version in registry.versions:
            active[version.adapter_id] += version.num_active
        requests = GaugeMetricFamily(
            "finetune_adapter_active_requests", "Requests that use an adapter now.", labels=["adapter_id"]
        )
        for adapter_id, number in active.items():
            requests.add_metric([adapter_id], number)
        yield requests
        names = GaugeMetricFamily(
            "finetune_alias_info", "1 for each name and the adapter that it stands for.", labels=["alias", "adapter_id"]
        )
        for alias in registry.served[:MAX_ALIASES]:
            names.add_metric([alias.name, alias.current.adapter_id], 1)
        yield names


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
