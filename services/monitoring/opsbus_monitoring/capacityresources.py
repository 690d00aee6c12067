"""What monitoring_capacity_report knows by name: an expression between 0 and 1, and the usual threshold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.matchers import Matcher


@dataclass(frozen=True)
class Resource:
    """``expr`` has ``%m`` where matchers go, and ``%,m`` where they follow others."""

    what: str
    expr: str
    threshold: float


RESOURCES = {
    "disk": Resource("Disk space", "1 - node_filesystem_avail_bytes{%m} / node_filesystem_size_bytes{%m}", 0.85),
    "inodes": Resource("Inodes", "1 - node_filesystem_files_free{%m} / node_filesystem_files{%m}", 0.85),
    "memory": Resource("Node memory", "1 - node_memory_MemAvailable_bytes{%m} / node_memory_MemTotal_bytes{%m}", 0.9),
    "cpu": Resource("Node CPU", '1 - avg by (node, instance) (rate(node_cpu_seconds_total{mode="idle"%,m}[5m]))', 0.8),
    "volumes": Resource(
        "Volume space", "kubelet_volume_stats_used_bytes{%m} / kubelet_volume_stats_capacity_bytes{%m}", 0.85
    ),
    "pod_memory": Resource(
        "Pod memory against its limit",
        'sum by (namespace, pod) (container_memory_working_set_bytes{container!=""%,m})'
        ' / sum by (namespace, pod) (kube_pod_container_resource_limits{resource="memory"%,m})',
        0.9,
    ),
}


def expression_of(name: str, matchers: Sequence[Matcher]) -> tuple[Resource, str]:
    """The resource, and its expression with the matchers in every selector.

    Raises:
        ToolError: ``invalid_arguments``: no such resource.
    """
    resource = RESOURCES.get(name.strip().lower())
    if resource is None:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"there is no resource {name[:60]!r}",
            hint=f"Resources: {', '.join(RESOURCES)}; or give expr and threshold.",
            did_you_mean=near(name, RESOURCES),
        )
    texts = [str(matcher) for matcher in matchers]
    filled = resource.expr.replace("%,m", "".join(f",{text}" for text in texts)).replace("%m", ",".join(texts))
    return resource, re.sub(r"\{\}", "", filled)
