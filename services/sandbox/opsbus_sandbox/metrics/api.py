"""Prometheus' HTTP API over the database and the rules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from opsbus_sandbox.metrics.rules import Alert, Alerting, Rule
from opsbus_sandbox.metrics.sampler import Sampler
from opsbus_sandbox.promql import evaluate
from opsbus_sandbox.promql.aggregate import format_value
from opsbus_sandbox.promql.database import Database, Series
from opsbus_sandbox.promql.errors import BadQueryError, PromqlError
from opsbus_sandbox.promql.values import Matrix, Value

_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
VERSION = "2.53.0-opsbus-sandbox"


def iso(when: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _point(when: float, value: float) -> list[Any]:
    return [round(when, 3), format_value(value)]


class PrometheusApi:
    """The routes. One instance per estate."""

    def __init__(self, database: Database, alerting: Alerting, sampler: Sampler) -> None:
        self.database, self.alerting, self.sampler = database, alerting, sampler
        self.clock: Callable[[], float] = sampler.clock

    def routes(self) -> list[web.RouteDef]:
        """All routes, under /api/v1 and /-/."""
        both = {"/query": self.query, "/query_range": self.query_range, "/series": self.series, "/labels": self.labels}
        return [
            *(web.get(f"/api/v1{path}", _answered(handler)) for path, handler in both.items()),
            *(web.post(f"/api/v1{path}", _answered(handler)) for path, handler in both.items()),
            web.get("/api/v1/label/{name}/values", _answered(self.label_values)),
            web.get("/api/v1/metadata", _answered(self.metadata)),
            web.get("/api/v1/targets", _answered(self.targets)),
            web.get("/api/v1/rules", _answered(self.rules)),
            web.get("/api/v1/alerts", _answered(self.alerts)),
            web.get("/api/v1/status/buildinfo", _answered(self.buildinfo)),
            web.get("/api/v1/status/runtimeinfo", _answered(self.runtimeinfo)),
            web.get("/-/ready", _plain("Prometheus Server is Ready.\n")),
            web.get("/-/healthy", _plain("Prometheus Server is Healthy.\n")),
        ]

    async def query(self, given: dict[str, list[str]]) -> Any:
        """An instant query."""
        when = self._time(given, "time", self.clock())
        return _data(evaluate.query(self.database, _one(given, "query"), when), when)

    async def query_range(self, given: dict[str, list[str]]) -> Any:
        """A range query."""
        start, end = self._time(given, "start"), self._time(given, "end")
        step = _duration("step", _one(given, "step"))
        found = evaluate.query_range(self.database, _one(given, "query"), start, end, step)
        result = [{"metric": labels, "values": [_point(*point) for point in points]} for labels, points in found]
        return {"resultType": "matrix", "result": result}

    async def series(self, given: dict[str, list[str]]) -> Any:
        """Label sets of series that match any selector."""
        if not given.get("match[]"):
            raise BadQueryError("no match[] parameter provided")
        return [series.labels for series in self._matched(given)]

    async def labels(self, given: dict[str, list[str]]) -> Any:
        """Label names."""
        return sorted({name for series in self._matched(given) for name in series.labels})

    async def label_values(self, given: dict[str, list[str]]) -> Any:
        """Values of a label."""
        name = given["name"][0]
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise BadQueryError(f'invalid label name: "{name}"')
        return sorted({series.labels[name] for series in self._matched(given) if name in series.labels})

    def _matched(self, given: dict[str, list[str]]) -> list[Series]:
        start, end = self._time(given, "start", -math.inf), self._time(given, "end", math.inf)
        selectors = given.get("match[]", [])
        if not selectors:
            return self.database.select([], start, end)
        found: dict[int, Series] = {}
        for text in selectors:
            tree = evaluate.parse(text)
            if not hasattr(tree, "matchers"):
                raise BadQueryError(f'invalid parameter "match[]": {text!r} is no series selector')
            found |= {id(s): s for s in self.database.select(evaluate.selector_matchers(tree), start, end)}
        return list(found.values())

    async def metadata(self, given: dict[str, list[str]]) -> Any:
        """Type and help by metric."""
        wanted = given.get("metric", [""])[0]
        entries = self.sampler.metadata.items()
        return {n: [{"type": kind, "help": text, "unit": ""}] for n, (kind, text) in entries if wanted in ("", n)}

    async def targets(self, given: dict[str, list[str]]) -> Any:
        """The platform's own targets."""
        return {"activeTargets": [_target(target) for target in self.sampler.targets], "droppedTargets": []}

    async def rules(self, given: dict[str, list[str]]) -> Any:
        """Alerting rules with their alerts."""
        rules = [_rule(rule, self.alerting) for rule in self.alerting.rules]
        if given.get("type", [""])[0] == "record":
            rules = []
        return {"groups": [{"name": "estate", "file": "estate.yml", "interval": 15, "rules": rules}]}

    async def alerts(self, given: dict[str, list[str]]) -> Any:
        """Pending and firing alerts."""
        return {"alerts": [_alert(alert) for alert in self.alerting.active.values()]}

    async def buildinfo(self, given: dict[str, list[str]]) -> Any:
        """Which software this is."""
        return {"version": VERSION, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}

    async def runtimeinfo(self, given: dict[str, list[str]]) -> Any:
        """Size of the database."""
        return {"timeSeriesCount": len(self.database), "storageRetention": f"{self.database.retention_s:.0f}s"}

    def _time(self, given: dict[str, list[str]], name: str, default: float | None = None) -> float:
        text = given.get(name, [""])[0]
        if not text and default is not None:
            return default
        try:
            return float(text)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise BadQueryError(f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp') from None


def _one(given: dict[str, list[str]], name: str) -> str:
    return given.get(name, [""])[0]


def _duration(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        parts = _DURATION.findall(text)
        if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
            raise BadQueryError(f'invalid parameter "{name}": cannot parse "{text}" to a valid duration') from None
        return math.fsum(int(number) * _UNIT_S[unit] for number, unit in parts)
    if not math.isfinite(seconds):
        raise BadQueryError(f'invalid parameter "{name}": cannot parse "{text}" to a valid duration')
    return seconds


def _data(value: Value, when: float) -> dict[str, Any]:
    if isinstance(value, float):
        return {"resultType": "scalar", "result": _point(when, value)}
    if isinstance(value, str):
        return {"resultType": "string", "result": [round(when, 3), value]}
    if isinstance(value, Matrix):
        windows = [
            {"metric": w.labels, "values": [_point(t, v) for t, v in zip(w.times, w.values, strict=True)]}
            for w in value.windows
        ]
        return {"resultType": "matrix", "result": windows}
    return {"resultType": "vector", "result": [{"metric": s.labels, "value": _point(when, s.value)} for s in value]}


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": alert.state,
        "activeAt": iso(alert.active_since),
        "value": format_value(alert.value),
    }


def _rule(rule: Rule, alerting: Alerting) -> dict[str, Any]:
    alerts = [_alert(alert) for alert in alerting.of(rule)]
    states = {alert["state"] for alert in alerts}
    error = alerting.errors.get(rule.name, "")
    return {
        "type": "alerting",
        "name": rule.name,
        "query": rule.expr,
        "duration": rule.for_s,
        "labels": rule.labels,
        "annotations": rule.annotations,
        "alerts": alerts,
        "state": "firing" if "firing" in states else "pending" if states else "inactive",
        "health": "err" if error else "ok",
        "lastError": error,
        "lastEvaluation": iso(alerting.evaluated_at),
        "evaluationTime": 0.001,
    }


def _target(target: Any) -> dict[str, Any]:
    return {
        "discoveredLabels": {"__address__": target.labels["instance"], "job": "opsbus"},
        "labels": target.labels,
        "scrapePool": "opsbus",
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": target.error,
        "lastScrape": iso(target.scraped_at),
        "lastScrapeDuration": target.seconds,
        "health": "up" if target.healthy else "down" if target.scraped_at else "unknown",
    }


def _plain(text: str) -> Any:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=text)

    return handler


def _answered(method: Callable[[dict[str, list[str]]], Any]) -> Any:
    """Parameters from query and form to a method; its result or error in Prometheus' envelope."""

    async def handler(request: web.Request) -> web.Response:
        form = await request.post() if request.method == "POST" else {}
        given: dict[str, list[str]] = {}
        for source in (request.query, form):
            for key in source:
                given.setdefault(key, []).extend(str(value) for value in source.getall(key))  # type: ignore[attr-defined]
        given.update({key: [value] for key, value in request.match_info.items()})
        try:
            return web.json_response({"status": "success", "data": await method(given)})
        except PromqlError as error:
            status = 400 if error.kind == "bad_data" else 422
            body = {"status": "error", "errorType": error.kind, "error": str(error)}
            return web.json_response(body, status=status)
        except RecursionError:
            body = {"status": "error", "errorType": "bad_data", "error": "the expression is nested too deeply"}
            return web.json_response(body, status=400)

    return handler
