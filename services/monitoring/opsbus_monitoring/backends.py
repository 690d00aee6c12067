"""The three systems behind the worker, each of which may be missing. What is asked of them is the tools' matter."""

import asyncio
from types import TracebackType
from typing import TypeVar

from opsbus import ErrorCode, Executed, ToolError
from opsbus.owners import Owners
from opsbus_monitoring.alert_owner import AlertOwners
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.grafana import Grafana
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.settings import MonitoringSettings

Backend = TypeVar("Backend", Prometheus, Alertmanager, Grafana)


class Backends:
    """An async context manager; leaving it closes the connections."""

    def __init__(self, settings: MonitoringSettings) -> None:
        self.settings = settings
        self.whose = AlertOwners(Owners(), settings.service_label, settings.owner_labels)
        headers = _headers(settings)
        self._prometheus = Prometheus(
            settings.prometheus_url,
            token=settings.prometheus_token.get_secret_value(),
            headers=headers,
            timeout_s=settings.query_timeout_s,
        )
        self._alertmanager = alertmanager_of(settings)
        self._grafana = Grafana(
            settings.grafana_url, token=settings.grafana_token.get_secret_value(), timeout_s=settings.request_timeout_s
        )

    async def __aenter__(self) -> "Backends":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(self._prometheus.close(), self._alertmanager.close(), self._grafana.close())

    @property
    def prometheus(self) -> Prometheus:
        """
        Raises:
            ToolError: ``backend_unavailable``: none is configured.
        """
        return self._configured(self._prometheus, self.settings.prometheus_url, "PROMETHEUS_URL")

    @property
    def alertmanager(self) -> Alertmanager:
        """
        Raises:
            ToolError: ``backend_unavailable``: none is configured.
        """
        return self._configured(self._alertmanager, self.settings.alertmanager_url, "ALERTMANAGER_URL")

    @property
    def grafana(self) -> Grafana:
        """
        Raises:
            ToolError: ``backend_unavailable``: none is configured.
        """
        return self._configured(self._grafana, self.settings.grafana_url, "GRAFANA_URL")

    def _configured(self, backend: Backend, url: str, setting: str) -> Backend:
        if url:
            return backend
        raise ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"this worker has no {type(backend).__name__}",
            hint=f"Set {setting} for the monitoring worker.",
            executed=Executed.NO,
            retryable=False,
        )


def alertmanager_of(settings: MonitoringSettings) -> Alertmanager:
    """A connection of its own, with a circuit breaker of its own."""
    return Alertmanager(
        settings.alertmanager_url,
        token=settings.alertmanager_token.get_secret_value(),
        headers=_headers(settings),
        timeout_s=settings.request_timeout_s,
    )


def _headers(settings: MonitoringSettings) -> dict[str, str]:
    return {"X-Scope-OrgID": settings.tenant} if settings.tenant else {}
