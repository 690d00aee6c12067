"""The settings of the monitoring worker: where its three systems are, as whom it speaks to them, and the bounds."""

import os
from typing import Annotated

from pydantic import Field, SecretStr

from opsbus import Settings

Seconds = Annotated[float, Field(gt=0, le=120)]


def _plain(name: str) -> str:
    return os.environ.get(name, "").strip()


class MonitoringSettings(Settings):
    """Environment ``OPSBUS_MONITORING_*`` and the section ``monitoring`` of the YAML file.

    The addresses and Grafana's token are also read from ``PROMETHEUS_URL``, ``ALERTMANAGER_URL``, ``GRAFANA_URL`` and
    ``GRAFANA_TOKEN``, as everybody spells them.
    """

    prometheus_url: str = Field(
        default_factory=lambda: _plain("PROMETHEUS_URL"),
        description="Also Thanos, Mimir, VictoriaMetrics. Empty: none.",
    )
    prometheus_token: SecretStr = Field(default=SecretStr(""), description="Sent as a bearer token.")
    alertmanager_url: str = Field(default_factory=lambda: _plain("ALERTMANAGER_URL"), description="Empty: none.")
    alertmanager_token: SecretStr = Field(default=SecretStr(""), description="Sent as a bearer token.")
    grafana_url: str = Field(default_factory=lambda: _plain("GRAFANA_URL"), description="Empty: none.")
    grafana_token: SecretStr = Field(
        default_factory=lambda: SecretStr(_plain("GRAFANA_TOKEN")), description="A service account's token."
    )
    grafana_public_url: str = Field(default="", description="Where people open it. Empty: grafana_url.")
    tenant: str = Field(default="", description="Sent as X-Scope-OrgID, where Prometheus or Alertmanager has tenants.")
    query_timeout_s: Seconds = Field(default=20.0, description="One query of Prometheus.")
    request_timeout_s: Seconds = Field(default=10.0, description="One request to Alertmanager or Grafana.")
    probe_timeout_s: Seconds = Field(default=3.0, description="One probe of monitoring_health_check.")
    silence_days_max: float = Field(default=7.0, gt=0, le=366, description="The longest silence a caller may create.")
    service_label: str = Field(
        default="service",
        pattern=r"^[a-zA-Z_]\w*$",
        description="The label that names a service in metrics and alerts.",
    )
    owner_labels: list[str] = Field(
        default=["owner", "owner_team", "team"],
        max_length=10,
        description="Labels of alerts that name who owns them; where there is none the CMDB is asked.",
    )
    read_owners: bool = Field(default=True, description="Read from the bus who owns what, as the CMDB tells it.")
    alert_watch: bool = Field(
        default=True, description="Tell the bus when an alert begins to fire and when it is over."
    )
    alert_watch_s: float = Field(default=15.0, ge=0.05, le=600, description="How often Alertmanager is asked for it.")
    alert_settle_s: float = Field(
        default=150.0,
        ge=0,
        le=3600,
        description="An Alertmanager that started no longer ago than this has not heard of all alerts yet: none is over"
        " because it does not know it.",
    )
    requests_metric: str = Field(default="http_requests_total", pattern=r"^[a-zA-Z_:][\w:]*$")
    status_label: str = Field(default="code", pattern=r"^[a-zA-Z_]\w*$", description="The label with the HTTP status.")
    duration_metric: str = Field(
        default="http_request_duration_seconds",
        pattern=r"^[a-zA-Z_:][\w:]*$",
        description="A histogram, without _bucket.",
    )
