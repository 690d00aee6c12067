"""Dashboards that are asked for again and again: RED of a service, workloads, USE of nodes, the platform itself."""

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
        "Nodes: utilisation, saturation, errors",
        (),
        (
            ("CPU busy", '1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m]))', "percentunit"),
            (
                "Memory used",
                "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                "percentunit",
            ),
            ("Disk used", "1 - node_filesystem_avail_bytes / node_filesystem_size_bytes", "percentunit"),
            (
                "CPU saturation: load per core",
                'node_load5 / on (instance) group_left () count by (instance) (node_cpu_seconds_total{mode="idle"})',
                "short",
            ),
            ("Memory saturation: major page faults", "rate(node_vmstat_pgmajfault[5m])", "ops"),
            ("Disk saturation: time busy", "rate(node_disk_io_time_seconds_total[5m])", "percentunit"),
            (
                "Network errors",
                "rate(node_network_receive_errs_total[5m]) + rate(node_network_transmit_errs_total[5m])",
                "pps",
            ),
            ("Nodes that are not ready", 'kube_node_status_condition{condition="Ready",status="true"} == 0', "short"),
        ),
    ),
    "workload": Template(
        "Workload $namespace/$workload",
        ("namespace", "workload"),
        (
            (
                "Replicas wanted",
                'kube_deployment_spec_replicas{namespace="$namespace",deployment="$workload"}',
                "short",
            ),
            (
                "Replicas available",
                'kube_deployment_status_replicas_available{namespace="$namespace",deployment="$workload"}',
                "short",
            ),
            (
                "Pods ready",
                'sum(kube_pod_status_ready{namespace="$namespace",pod=~"$workload-.*",condition="true"})',
                "short",
            ),
            (
                "Restarts in 10 minutes",
                "sum by (pod) (increase(kube_pod_container_status_restarts_total"
                '{namespace="$namespace",pod=~"$workload-.*"}[10m]))',
                "short",
            ),
            (
                "CPU against its limit",
                "sum by (pod) (rate(container_cpu_usage_seconds_total"
                '{namespace="$namespace",pod=~"$workload-.*"}[5m])) / sum by (pod) (kube_pod_container_resource_limits'
                '{namespace="$namespace",pod=~"$workload-.*",resource="cpu"})',
                "percentunit",
            ),
            (
                "Memory against its limit",
                "sum by (pod) (container_memory_working_set_bytes"
                '{namespace="$namespace",pod=~"$workload-.*"}) / sum by (pod) (kube_pod_container_resource_limits'
                '{namespace="$namespace",pod=~"$workload-.*",resource="memory"})',
                "percentunit",
            ),
        ),
    ),
    "platform": Template(
        "opsbus: the platform itself",
        (),
        (
            ("Tool calls per second, by outcome", "sum by (status) (rate(mcp_tool_calls_total[5m]))", "reqps"),
            (
                "Tool calls p99",
                "histogram_quantile(0.99, sum by (le, tool) (rate(mcp_tool_call_duration_seconds_bucket[5m])))",
                "s",
            ),
            ("Errors told to callers, by code", "sum by (code) (rate(mcp_errors_total[5m]))", "reqps"),
            ("Calls at workers now", "sum by (instance) (opsbus_edge_calls_in_flight)", "short"),
            ("Refused by a limit", "sum by (limit) (rate(mcp_rate_limit_hits_total[5m]))", "reqps"),
            ("Audit events not yet acknowledged", "sum by (instance) (opsbus_edge_audit_pending)", "short"),
            ("Audit spool on disk", "sum by (instance) (opsbus_edge_audit_spool_bytes)", "bytes"),
            (
                "Workers: calls per second, by outcome",
                "sum by (instance, outcome) (rate(opsbus_worker_calls_total[5m]))",
                "reqps",
            ),
            ("Workers: calls that wait", "sum by (instance) (opsbus_worker_queue)", "short"),
            ("Workers ready", "sum by (instance) (opsbus_worker_ready)", "short"),
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
