"""The gate that bounds how many calls one caller has under way. Rates and budgets belong in files beside this one."""

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import Caller, error_body


class ConcurrencyLimit:
    """Calls under way by caller."""

    def __init__(self, per_caller: int, metrics: Metrics) -> None:
        self._per_caller = per_caller
        self._metrics = metrics
        self._running: dict[str, int] = {}

    def enter(self, caller: Caller) -> ErrorBody | None:
        """Count a call in; the error when the caller has its share. Whoever got None calls ``leave``."""
        running = self._running.get(caller.sub, 0)
        if running >= self._per_caller:
            self._metrics.rate_limit_hits.labels("concurrency").inc()
            return error_body(
                ErrorCode.RATE_LIMITED,
                f"{self._per_caller} of your calls are under way, which is the bound",
                hint="Wait for one to end.",
                retry_after_ms=1_000,
            )
        self._running[caller.sub] = running + 1
        return None

    def leave(self, caller: Caller) -> None:
        """Count a call out."""
        running = self._running[caller.sub] - 1
        if running:
            self._running[caller.sub] = running
        else:
            del self._running[caller.sub]
