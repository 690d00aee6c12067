"""Whose an alert is, and of which service: its labels say, or else the CMDB by what the labels name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from opsbus.owners import Owned, Owners
from opsbus_monitoring.alertmodels import AlertRow

WORKLOAD_LABELS = ("deployment", "statefulset", "daemonset", "workload", "cronjob", "job_name")
NAME_LABELS = ("app", "application", "app_kubernetes_io_name", "container", "database", "datname", "job")
HOST_LABELS = ("node", "host", "hostname", "nodename", "instance")

_POD = (
    re.compile(r"^(.+)-[a-z0-9]{6,10}-[a-z0-9]{5}$"),  # of a deployment
    re.compile(r"^(.+)-(?:[a-z0-9]{5}|\d{1,4})$"),  # of a daemon set, a job, a stateful set
)


class Whose(NamedTuple):
    """Service and owner of an alert; None: nobody says."""

    service: str | None
    owner: str | None
    from_cmdb: list[str]
    """Which of the two are the CMDB's word."""


class AlertOwners:
    """Finds owners.

    Args:
        owners: What the CMDB told last.
        service_label: The label that names a service.
        owner_labels: Labels that name an owner, the first that there is counts.
    """

    def __init__(self, owners: Owners, service_label: str, owner_labels: Sequence[str]) -> None:
        self.known = owners
        self._service_label = service_label
        self._owner_labels = tuple(owner_labels)

    def whose(self, labels: Mapping[str, str]) -> Whose:
        """By an alert's labels."""
        service = labels.get(self._service_label) or None
        owner = next((labels[name] for name in self._owner_labels if labels.get(name)), None)
        from_cmdb: list[str] = []
        if owner is None or service is None:
            found, exact = self._found(labels)
            if found is not None and owner is None:
                owner = found.owner_team
                from_cmdb.append("owner")
            if found is not None and exact and service is None and found.service:
                service = found.service
                from_cmdb.insert(0, "service")
        return Whose(service, owner, from_cmdb)

    def tell(self, rows: Iterable[AlertRow]) -> None:
        """Write it into rows."""
        for row in rows:
            found = self.whose(row.all_labels())
            row.service, row.owner, row.from_cmdb = found.service, found.owner, found.from_cmdb or None

    def _found(self, labels: Mapping[str, str]) -> tuple[Owned | None, bool]:
        """The asset it is about, and whether it is that one or only all around it has one owner."""
        namespace = labels.get("namespace") or ""
        workloads = [labels[name] for name in WORKLOAD_LABELS if labels.get(name)]
        named = [labels[name] for name in (self._service_label, *NAME_LABELS) if labels.get(name)]
        if namespace:
            found = self.known.of_workload(namespace, *workloads, *_of_pod(labels.get("pod") or ""), *named)
            if found is not None:
                return found, True
            return self.known.of_namespace(namespace), False
        machines = [labels[name] for name in HOST_LABELS if labels.get(name)]
        found = self.known.of_name(*workloads, *named) or self.known.of_host(*machines)
        return found, found is not None


def _of_pod(pod: str) -> list[str]:
    """Names of the workload a pod may be of; those that are none are in no listing."""
    return [match[1] for pattern in _POD if (match := pattern.match(pod))] + ([pod] if pod else [])
