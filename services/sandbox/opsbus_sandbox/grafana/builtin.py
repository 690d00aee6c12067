"""The dashboards the shop already has."""

from __future__ import annotations

from typing import Any


def _panel(number: int, title: str, expr: str, unit: str) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [{"refId": "A", "expr": expr}],
        "gridPos": {"h": 8, "w": 12, "x": 12 * ((number - 1) % 2), "y": 8 * ((number - 1) // 2)},
    }


_RATE = 'sum by (service) (rate(http_requests_total{namespace="shop"}[5m]))'
_ERRORS = f'sum by (service) (rate(http_requests_total{{namespace="shop",code=~"5.."}}[5m])) / {_RATE}'
_P99 = (
    'histogram_quantile(0.99, sum by (service, le) (rate(http_request_duration_seconds_bucket{namespace="shop"}[5m])))'
)

DASHBOARDS: tuple[dict[str, Any], ...] = (
    {
        "uid": "shop-red",
        "title": "Shop: rate, errors, duration",
        "tags": ["shop", "red"],
        "schemaVersion": 39,
        "panels": [
            _panel(1, "Requests per second", _RATE, "reqps"),
            _panel(2, "Share of 5xx", _ERRORS, "percentunit"),
            _panel(3, "p99", _P99, "s"),
        ],
    },
    {
        "uid": "nodes-use",
        "title": "Nodes: utilisation",
        "tags": ["nodes", "use"],
        "schemaVersion": 39,
        "panels": [
            _panel(1, "CPU busy", '1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m]))', "percentunit"),
            _panel(2, "Memory free", "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "percentunit"),
        ],
    },
)
