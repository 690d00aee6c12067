"""Prometheus' HTTP API (also Thanos, Mimir, VictoriaMetrics). What to ask and how to show it is the tools' matter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opsbus_monitoring.backend import Backend, BackendError, Params

SYSTEM = "Prometheus"


@dataclass(frozen=True)
class Series:
    """A labelled series; points are ``(Unix seconds, value)``, NaN and infinities as None."""

    labels: dict[str, str]
    points: list[tuple[float, float | None]]


@dataclass(frozen=True)
class QueryResult:
    """What a query gave; ``warnings`` are Prometheus' own."""

    kind: str
    """``vector``, ``matrix``, ``scalar`` or ``string``."""
    series: list[Series]
    warnings: list[str] = field(default_factory=list)


def _number(text: Any) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


class Prometheus:
    """The reads the tools need."""

    def __init__(
        self, url: str, *, token: str = "", headers: Mapping[str, str] | None = None, timeout_s: float = 20.0
    ) -> None:
        self.backend = Backend(SYSTEM, url, setting="PROMETHEUS_URL", token=token, headers=headers, timeout_s=timeout_s)

    async def close(self) -> None:
        """End the session."""
        await self.backend.close()

    async def query(self, expr: str, when: float | None = None) -> QueryResult:
        """An instant query at ``when`` (Unix seconds; None: now)."""
        form = {"query": expr} | ({"time": f"{when:.3f}"} if when is not None else {})
        return _result(await self._document("/api/v1/query", form=form))

    async def query_range(self, expr: str, start: float, end: float, step_s: float) -> QueryResult:
        """A range query; times in Unix seconds."""
        form = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        return _result(await self._document("/api/v1/query_range", form=form))

    async def series(self, matches: list[str], start: float, end: float) -> list[dict[str, str]]:
        """Label sets of series that match any selector."""
        params = [("match[]", text) for text in matches] + [("start", f"{start:.3f}"), ("end", f"{end:.3f}")]
        found: list[dict[str, str]] = await self._data("/api/v1/series", params)
        return found

    async def label_values(self, label: str) -> list[str]:
        """Values of a label; ``__name__`` gives the metrics."""
        found: list[str] = await self._data(f"/api/v1/label/{label}/values")
        return found

    async def metric_names(self, matches: list[str], start: float, end: float) -> list[str]:
        """Names of metrics with samples in a time, of series that match any selector; none: of all series."""
        params = [("match[]", text) for text in matches] + [("start", f"{start:.3f}"), ("end", f"{end:.3f}")]
        return self._texts(await self._data("/api/v1/label/__name__/values", params))

    async def label_names(self, match: str, start: float, end: float) -> list[str]:
        """Names of labels of the series that match a selector."""
        params = [("match[]", match), ("start", f"{start:.3f}"), ("end", f"{end:.3f}")]
        return self._texts(await self._data("/api/v1/labels", params))

    async def all_metadata(self) -> dict[str, dict[str, Any]]:
        """Metric to type, help and unit, as one target tells it."""
        found = await self._data("/api/v1/metadata", {"limit_per_metric": "1"})
        if not isinstance(found, dict):
            raise self._another_shape()
        return {name: entries[0] for name, entries in found.items() if isinstance(entries, list) and entries}

    async def metadata(self, metric: str) -> dict[str, Any]:
        """Type and help of a metric; empty when unknown."""
        entries = (await self._data("/api/v1/metadata", {"metric": metric})).get(metric) or [{}]
        first: dict[str, Any] = entries[0]
        return first

    async def rules(self) -> list[dict[str, Any]]:
        """Alerting rules."""
        groups = await self._part("/api/v1/rules", {"type": "alert"}, "groups")
        return [rule for group in groups for rule in group["rules"]]

    async def rule_groups(self) -> list[dict[str, Any]]:
        """Groups with their rules, alerting and recording."""
        groups = await self._part("/api/v1/rules", None, "groups")
        if not all(isinstance(group.get("rules"), list) for group in groups):
            raise self._another_shape()
        return groups

    async def targets(self) -> list[dict[str, Any]]:
        """Active targets."""
        return await self._part("/api/v1/targets", {"state": "active"}, "activeTargets")

    async def version(self) -> str:
        """The server's version."""
        return str((await self._data("/api/v1/status/buildinfo")).get("version", ""))

    async def _data(self, path: str, params: Params = None) -> Any:
        return (await self._document(path, params=params))["data"]

    async def _part(self, path: str, params: Params, name: str) -> list[dict[str, Any]]:
        data = await self._data(path, params)
        found = data.get(name) if isinstance(data, dict) else None
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._another_shape()
        return found

    def _texts(self, found: Any) -> list[str]:
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise self._another_shape()
        return found

    def _another_shape(self) -> BackendError:
        return BackendError(
            SYSTEM,
            "unavailable",
            "Prometheus answered JSON of another shape than its API's.",
            hint=f"Is PROMETHEUS_URL ({self.backend.base_url}) a Prometheus API?",
        )

    async def _document(
        self, path: str, *, params: Params = None, form: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        document = await (self.backend.read_by_post(path, form) if form else self.backend.get(path, params))
        if not isinstance(document, dict) or document.get("status") != "success" or "data" not in document:
            raise self._another_shape()
        return document


def _result(document: dict[str, Any]) -> QueryResult:
    data = document["data"]
    warnings = [str(text) for text in document.get("warnings") or []]
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        value = None if kind == "string" else _number(result[1])
        labels = {"value": str(result[1])} if kind == "string" else {}
        return QueryResult(kind, [Series(labels, [(float(result[0]), value)])], warnings)
    series = [
        Series(item["metric"], [(float(t), _number(v)) for t, v in item.get("values") or [item["value"]]])
        for item in result
    ]
    return QueryResult(kind, series, warnings)
