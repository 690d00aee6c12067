"""What others tell of workloads on the bus, for a diagnosis: alerts that fire (monitoring) and owners (CMDB).

Read in the background and kept in memory; without the stream, or without those who tell, there is just nothing.
"""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel

from opsbus.alerts_told import AlertsReader, ToldAlert
from opsbus.nats_client import close, connect
from opsbus.owners import Owned, OwnersReader
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.models import optional

if TYPE_CHECKING:
    from opsbus_k8s_ops.settings import K8sSettings

SERVICE = "k8s"
WORKLOAD_LABELS = ("deployment", "statefulset", "daemonset", "workload")
NAME_LABELS = ("service", "app", "app_kubernetes_io_name", "container")
_GRAVE = ("critical", "page", "error", "high", "warning")
_POD_SUFFIX = r"-(?:[a-z0-9]{6,10}-[a-z0-9]{5}|[a-z0-9]{5}|\d{1,4})"


class FiringAlert(BaseModel):
    """An alert that fires for the workload, as the monitoring worker told."""

    name: str
    severity: str
    since: str
    summary: str | None = optional()


class Beside:
    """What is known; empty until ``reading`` runs."""

    def __init__(self) -> None:
        self.owners: OwnersReader | None = None
        self.alerts: AlertsReader | None = None

    def owner(self, namespace: str, name: str) -> Owned | None:
        """Whose a workload is, as the CMDB told."""
        return self.owners.known.of_workload(namespace, name) if self.owners is not None else None

    def firing(self, namespace: str, name: str, others: Iterable[str] = ()) -> list[FiringAlert]:
        """The alerts that name a workload, the gravest first.

        Args:
            others: Clusters whose alerts are none of it.
        """
        if self.alerts is None:
            return []
        elsewhere = frozenset(others)
        found = [told for told in self.alerts.firing().values() if _names(told, namespace, name, elsewhere)]
        rows = [_row(told) for told in found]
        return sorted(rows, key=lambda row: (_grade(row.severity), row.since, row.name))


@asynccontextmanager
async def reading(settings: "K8sSettings", beside: Beside) -> AsyncIterator[None]:
    """What is told is read while the block runs."""
    if settings.shadow:
        yield
        return
    client = await connect(settings, SERVICE, name=f"{SERVICE}-beside")
    owners, alerts = OwnersReader(client, SERVICE), AlertsReader(client, SERVICE)
    try:
        await owners.reader.start()
        await alerts.start()
        beside.owners, beside.alerts = owners, alerts
        yield
    finally:
        await owners.reader.stop()
        await alerts.stop()
        await close(client)


def _names(told: ToldAlert, namespace: str, name: str, elsewhere: frozenset[str]) -> bool:
    labels = told.data.get("labels")
    if not isinstance(labels, dict) or labels.get("namespace") != namespace or labels.get("cluster") in elsewhere:
        return False
    workloads = [labels[label] for label in WORKLOAD_LABELS if labels.get(label)]
    if workloads:
        return name in workloads
    pod = labels.get("pod")
    if isinstance(pod, str) and pod:
        # A label `service` or `container` of an alert about a pod may be the exporter's that saw it.
        return re.fullmatch(re.escape(name) + _POD_SUFFIX, pod) is not None
    return any(labels.get(label) == name for label in NAME_LABELS) or told.data.get("service") == name


def _row(told: ToldAlert) -> FiringAlert:
    summary = told.data.get("summary")
    return FiringAlert(
        name=str(told.data.get("alertname") or "")[:100],
        severity=str(told.data.get("severity") or "")[:40],
        since=told.starts_at,
        summary=mask_text(str(summary))[:300] if summary else None,
    )


def _grade(severity: str) -> int:
    return _GRAVE.index(severity) if severity in _GRAVE else len(_GRAVE)
