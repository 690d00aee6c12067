"""The monitoring worker, wired: settings, backends, tools. What the tools do is in tool_*.py and overview.py."""

from collections.abc import AsyncIterator

from opsbus import Worker
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.listening import listening
from opsbus_monitoring.overview import DASHBOARDS_URI, dashboards
from opsbus_monitoring.settings import MonitoringSettings
from opsbus_monitoring.tool_alerts import ALERTS_URI, alerts_overview, get_alerts
from opsbus_monitoring.tool_capacity import capacity_report
from opsbus_monitoring.tool_dashboard_patch import patch_dashboard
from opsbus_monitoring.tool_dashboard_summary import get_dashboard_summary
from opsbus_monitoring.tool_dashboards import create_dashboard
from opsbus_monitoring.tool_describe_metric import describe_metric
from opsbus_monitoring.tool_find_metrics import find_metrics
from opsbus_monitoring.tool_health import health_check
from opsbus_monitoring.tool_query import query_metrics
from opsbus_monitoring.tool_rules import get_rules
from opsbus_monitoring.tool_silence_create import create_silence
from opsbus_monitoring.tool_silence_expire import expire_silence
from opsbus_monitoring.tool_silences import list_silences
from opsbus_monitoring.tool_targets import get_targets


def build() -> Worker:
    """A worker with everything it offers; several can run in one process."""
    made = Worker(
        "monitoring",
        version="0.1.0",
        title="Monitoring",
        description="Metrics, alerts and dashboards: Prometheus, Alertmanager and Grafana.",
        settings=MonitoringSettings,
        blobs="metrics:query",
    )

    @made.lifespan
    async def lifespan(settings: MonitoringSettings) -> AsyncIterator[Backends]:
        async with Backends(settings) as backends, listening(made, settings, backends):
            yield backends

    made.tool(permission="metrics:query", read_only=True, title="Query metrics", timeout_s=60)(query_metrics)
    made.tool(permission="metrics:query", read_only=True, title="Find metrics")(find_metrics)
    made.tool(permission="metrics:query", read_only=True, title="Describe a metric")(describe_metric)
    made.tool(permission="metrics:query", read_only=True, title="Scrape targets")(get_targets)
    made.tool(permission="metrics:query", read_only=True, title="Capacity report", timeout_s=120)(capacity_report)
    made.tool(permission="alerts:read", read_only=True, title="Rules")(get_rules)
    made.tool(permission="alerts:read", read_only=True, title="Alerts")(get_alerts)
    made.tool(permission="health:read", read_only=True, title="Health check")(health_check)
    made.tool(permission="dashboards:write", title="Save a dashboard", destructive=True, timeout_s=60, plans=True)(
        create_dashboard
    )
    made.tool(permission="metrics:query", read_only=True, title="A dashboard")(get_dashboard_summary)
    made.tool(permission="dashboards:write", title="Change a dashboard", destructive=True, timeout_s=60, plans=True)(
        patch_dashboard
    )
    made.tool(permission="alerts:read", read_only=True, title="Silences")(list_silences)
    made.tool(permission="alerts:silence", title="Create a silence", destructive=True, timeout_s=60, plans=True)(
        create_silence
    )
    made.tool(
        permission="alerts:silence", title="End a silence", destructive=True, idempotent=True, timeout_s=60, plans=True
    )(expire_silence)
    made.resource(
        DASHBOARDS_URI,
        name="dashboards",
        permission="metrics:query",
        mime_type="application/json",
        title="Dashboards",
        subscribable=True,
    )(dashboards)
    made.resource(
        ALERTS_URI,
        name="alerts",
        permission="alerts:read",
        mime_type="application/json",
        title="Alerts",
        subscribable=True,
    )(alerts_overview)
    return made


worker = build()
service = worker.service(order=30, needs=("nats",))
