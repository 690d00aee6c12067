"""The gate that sheds load: no more calls at a service than its instances run and queue. Beyond it only waits grow.

No caller takes all of it: one may have ``SHARE`` times as many calls at a service as there are places left. So a caller
alone gets two thirds, two get two fifths each, and whoever comes anew always finds room.
"""

from collections.abc import Hashable
from typing import TypeVar

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import Catalog
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import error_body

RETRY_AFTER_MS = 1_000
SHARE = 2
ALONE_MAX = 8
"""A service with no more places than this is too small to be shared out."""

_Key = TypeVar("_Key", bound=Hashable)


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
        self._of_caller: dict[tuple[str, str], int] = {}

    def enter(self, service: str, caller: str) -> ErrorBody | None:
        """Count a call in; the error when the service has enough to do. Whoever got None calls ``leave``."""
        running = self._running.get(service, 0)
        most = max(1, int(self._catalog.places(service) * self._factor))
        if running >= most:
            self._metrics.rate_limit_hits.labels("load").inc()
            return _busy(f"{service} has as many calls as it takes ({most})")
        own = self._of_caller.get((service, caller), 0)
        if most > ALONE_MAX and own >= SHARE * (most - running):
            self._metrics.rate_limit_hits.labels("load_share").inc()
            return _busy(f"{service} has {own} calls of yours, and keeps what it still takes for others")
        self._running[service] = running + 1
        self._of_caller[service, caller] = own + 1
        return None

    def leave(self, service: str, caller: str) -> None:
        """Count a call out."""
        _one_less(self._running, service)
        _one_less(self._of_caller, (service, caller))


def _busy(message: str) -> ErrorBody:
    return error_body(
        ErrorCode.BUSY,
        message,
        hint="Try again in a moment; more instances of the worker would help.",
        retry_after_ms=RETRY_AFTER_MS,
    )


def _one_less(counts: dict[_Key, int], key: _Key) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
