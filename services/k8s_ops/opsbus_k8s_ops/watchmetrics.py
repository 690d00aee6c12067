"""What the watches show of themselves on the worker's /metrics."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.registry import Collector


class WatchMetrics(Collector):
    """Labels are configured clusters, the watched kinds and words of closed lists."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        where = ("cluster", "resource")
        self.age = Gauge(
            "opsbus_k8s_watch_age_seconds", "Since the last event or bookmark of a watch.", where, registry=registry
        )
        self.open = Gauge("opsbus_k8s_watch_open", "Watches that are open now.", where, registry=registry)
        self.objects = Gauge("opsbus_k8s_watch_objects", "Objects something is kept of.", where, registry=registry)
        self.lists = Counter("opsbus_k8s_watch_lists", "Whole listings, the first included.", where, registry=registry)
        self.restarts = Counter(
            "opsbus_k8s_watch_restarts",
            "Watches that ended: closed, expired, stale, unavailable, broken, refused, failed.",
            (*where, "reason"),
            registry=registry,
        )
        self.events = Counter("opsbus_k8s_events", "Events stored, by kind.", ("kind",), registry=registry)
        self.lost = Counter(
            "opsbus_k8s_events_lost", "Events that found no place to wait, by kind.", ("kind",), registry=registry
        )
        self.pending = Gauge("opsbus_k8s_events_pending", "Events that wait to be stored.", registry=registry)
        self.refresh: Callable[[], None] = lambda: None
        """Sets the gauges; called before they are read."""

    def collect(self) -> Iterable[Metric]:
        """Everything counted here, for the registry this collector is put in."""
        self.refresh()
        return self.registry.collect()
