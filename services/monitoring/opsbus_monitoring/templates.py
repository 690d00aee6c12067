"""Dashboards that are asked for again and again: RED of a service, a namespace's workloads, nodes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.dashboards import PanelSpec
from opsbus_monitoring.settings import MonitoringSettings

_VALUE = re.compile(r"[A-Za-z0-9_.:/-]{1,100}")


@dataclass(frozen=True)
class Template:
    """Panels with ``$variables`` in them."""

    title: str
    variables: tuple[str, ...]
    panels: tuple[tuple[str, str, str], ...]
    """Title, expression, unit. ``%requests`` and the like are names out of the settings."""


TEMPLATES = {
    "service_red": Template(
        "Service $service: rate, errors, duration",
        ("service",),
        (
            ("Requests per second", 'sum(rate(%requests{%service="$service"}[5m]))', "reqps"),
            (
                "Share of failed requests",
                'sum(rate(%requests{%service="$service",%status=~"5.."}[5m]))'
                ' / sum(rate(%requests{%service="$service"}[5m]))',
                "percentunit",
            ),
            (
                "Duration p50",
                'histogram_quantile(0.5, sum by (le) (rate(%duration_bucket{%service="$service"}[5m])))',
                "s",
            ),
            (
                "Duration p99",
                'histogram_quantile(0.99, sum by (le) (rate(%duration_bucket{%service="$service"}[5m])))',
                "s",
            ),
        ),
    ),
    "namespace_workloads": Template(
        "Namespace $namespace: workloads",
        ("namespace",),
        (
            (
                "Replicas missing",
                'kube_deployment_spec_replicas{namespace="$namespace"}'
                ' - kube_deployment_status_replicas_available{namespace="$namespace"}',
                "short",
            ),
            (
                "Restarts in 10 minutes",
                'sum by (pod) (increase(kube_pod_container_status_restarts_total{namespace="$namespace"}[10m]))',
                "short",
            ),
            (
                "Memory",
                'sum by (pod) (container_memory_working_set_bytes{namespace="$namespace"})',
                "bytes",
            ),
            (
                "CPU",
                'sum by (pod) (rate(container_cpu_usage_seconds_total{namespace="$namespace"}[5m]))',
                "short",
            ),
        ),
    ),
    "nodes_use": Template(
        "Nodes: utilisation",
        (),
        (
            ("CPU busy", '1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m]))', "percentunit"),
            (
                "Memory used",
                "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                "percentunit",
            ),
            ("Disk used", "1 - node_filesystem_avail_bytes / node_filesystem_size_bytes", "percentunit"),
        ),
    ),
}


def fill(name: str, variables: Mapping[str, str], settings: MonitoringSettings) -> tuple[str, list[PanelSpec]]:
    """A template's title and panels.

    Raises:
        ToolError: ``invalid_arguments`` for an unknown template, missing or unknown variables, or a value that is no
        plain
            name: it would be part of an expression.
    """
    template = TEMPLATES.get(name)
    if template is None:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"there is no template {name!r}",
            hint="Templates: "
            + "; ".join(f"{key} ({', '.join(t.variables) or 'no variables'})" for key, t in TEMPLATES.items()),
            did_you_mean=near(name, TEMPLATES),
        )
    if set(variables) != set(template.variables):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"the template {name} takes the variables {', '.join(template.variables) or 'none'}",
            hint=f"Given: {', '.join(variables) or 'none'}.",
        )
    for key, value in variables.items():
        if not _VALUE.fullmatch(value):
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"variables.{key}: {value[:60]!r} is no plain name",
                hint="Letters, digits and _ . : / - only.",
            )
    names = {
        "%requests": settings.requests_metric,
        "%duration_bucket": f"{settings.duration_metric}_bucket",
        "%service": settings.service_label,
        "%status": settings.status_label,
    } | {f"${key}": value for key, value in variables.items()}

    def filled(text: str) -> str:
        for key, value in names.items():
            text = text.replace(key, value)
        return text

    return filled(template.title), [
        PanelSpec(title=filled(title), expr=filled(expr), unit=unit) for title, expr, unit in template.panels
    ]
