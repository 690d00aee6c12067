"""Prometheus metrics of one running worker, in a registry of its own so that several workers live in one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third of the text, and nobody reads it

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """What a worker counts. Labels are bounded: names of registered tools, codes of the closed list."""

    def __init__(self, service: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.calls = self._counter(
            "calls", "Calls ended, by tool and outcome (ok or an error code).", "tool", "outcome"
        )
        self.duration = Histogram(
            "opsbus_worker_call_duration_seconds",
            "From a call's arrival to its final reply.",
            ["tool"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = self._gauge("in_flight", "Calls that run now.")
        self.queue = self._gauge("queue", "Calls that wait for a free place.")
        self.ready = self._gauge("ready", "1: serving and announced.")
        self.nats_errors = self._counter("nats_errors", "Errors the NATS client reported, by kind.", "kind")
        self.reconnects = self._counter("reconnects", "Connections to NATS made again.")
        self.announcements = self._counter("announcements", "Puts of the manifest, by outcome.", "outcome")
        self.lost_events = self._counter("lost_events", "Events that could not be stored, by family.", "family")
        info = Gauge("opsbus_worker_info", "Service and version.", ["service", "version"], registry=self.registry)
        info.labels(service, version).set(1)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"opsbus_worker_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"opsbus_worker_{name}", help_text, registry=self.registry)

    def ended(self, tool: str, outcome: str, duration_s: float) -> None:
        """A call ended. The labelled children are looked up once: it is on every call's way."""
        children = self._children.get((tool, outcome))
        if children is None:
            children = (self.calls.labels(tool, outcome), self.duration.labels(tool))
            self._children[tool, outcome] = children
        children[0].inc()
        children[1].observe(duration_s)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
