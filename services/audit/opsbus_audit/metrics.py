"""How far the store is behind the stream: gauges and counters of the consumer, shown on the worker's own /metrics."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.registry import Collector

from opsbus import Settings, Worker

_LOOK_EVERY_S = 0.1


class ConsumerMetrics(Collector):
    """Counted by one consumer. No label: nothing here grows with what callers send."""

    def __init__(self, prefix: str = "opsbus_audit") -> None:
        registry = self.registry = CollectorRegistry()
        self.stored = Counter(f"{prefix}_events_stored", "Events written to the store.", registry=registry)
        self.unreadable = Counter(
            f"{prefix}_events_unreadable", "Events stored whose bytes are no audit event.", registry=registry
        )
        self.duplicates = Counter(
            f"{prefix}_events_duplicate", "Events stored whose id was stored before.", registry=registry
        )
        self.store_errors = Counter(f"{prefix}_store_errors", "Writes the store did not take.", registry=registry)
        self.read_errors = Counter(f"{prefix}_read_errors", "Times that reading the stream ended.", registry=registry)
        self.storing = Gauge(f"{prefix}_storing", "1: the last write was taken; 0: it was not.", registry=registry)
        self.sequence = Gauge(f"{prefix}_sequence", "Last sequence of the stream that is stored.", registry=registry)
        self.pending = Gauge(f"{prefix}_pending_events", "Events of the stream not stored yet.", registry=registry)
        self.lag = Gauge(
            f"{prefix}_lag_seconds",
            "Age of the last event when it was stored, by the server's clock.",
            registry=registry,
        )

    def collect(self) -> Iterable[Metric]:
        """Everything counted here, for the registry this collector is put in."""
        return self.registry.collect()

    async def show_on(self, worker: Worker, settings: Settings) -> None:
        """Join the /metrics of the instance that runs with ``settings``, once it is there."""
        while True:
            for runtime in worker.runtimes:
                if runtime.settings is settings:
                    runtime.metrics.registry.register(self)
                    return
            await asyncio.sleep(_LOOK_EVERY_S)


class StoreMetrics(ConsumerMetrics):
    """And what the store shows of the record."""

    def __init__(self) -> None:
        super().__init__()
        prefix, registry = "opsbus_audit", self.registry
        self.missing = Gauge(
            f"{prefix}_missing_events", "Events that their sources numbered and that never came.", registry=registry
        )
        self.open_calls = Gauge(f"{prefix}_open_calls", "Calls without an end, seen here.", registry=registry)
        self.closed_calls = Counter(
            f"{prefix}_calls_closed", "Calls closed as unknown, for nobody recorded their end.", registry=registry
        )
