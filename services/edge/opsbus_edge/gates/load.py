"""The gate that sheds load: no more calls at a service than its instances run and queue. Beyond it only waits grow."""

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import Catalog
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import error_body

RETRY_AFTER_MS = 1_000


class ServiceLoad:
    """Calls of this edge under way, by service.

    Args:
        factor: Calls that may be under way for each place that a service's instances have.
    """

    def __init__(self, catalog: Catalog, factor: float, metrics: Metrics) -> None:
        self._catalog = catalog
        self._factor = factor
        self._metrics = metrics
        self._running: dict[str, int] = {}

    def enter(self, service: str) -> ErrorBody | None:
        """Count a call in; the error when the service has enough to do. Whoever got None calls ``leave``."""
        running = self._running.get(service, 0)
        most = max(1, int(self._catalog.places(service) * self._factor))
        if running >= most:
            self._metrics.rate_limit_hits.labels("load").inc()
            return error_body(
                ErrorCode.BUSY,
                f"{service} has as many calls as it takes ({most})",
                hint="Try again in a moment; more instances of the worker would help.",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._running[service] = running + 1
        return None

    def leave(self, service: str) -> None:
        """Count a call out."""
        running = self._running[service] - 1
        if running:
            self._running[service] = running
        else:
            del self._running[service]
