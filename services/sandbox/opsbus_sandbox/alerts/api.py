"""The routes of Alertmanager's API v2."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from aiohttp import web

from opsbus_sandbox.alerts.silences import BadSilenceError, LabelMatcher, Silences, parse_filter, stamp
from opsbus_sandbox.metrics.rules import Alert, Alerting
from opsbus_sandbox.promql.database import Labels

GROUP_BY = ("alertname", "namespace")
RECEIVER = "on-call"


class AlertmanagerApi:
    """One instance per estate. Inhibition: a critical alert mutes the warnings of its namespace and service."""

    def __init__(self, alerting: Alerting, clock: Callable[[], float]) -> None:
        self.alerting, self.clock = alerting, clock
        self.silences = Silences(clock)
        self.started = clock()

    def routes(self) -> list[web.RouteDef]:
        """All routes, relative to the API's root."""
        return [
            web.get("/api/v2/status", self.status),
            web.get("/api/v2/receivers", self.receivers),
            web.get("/api/v2/alerts", self.alerts),
            web.get("/api/v2/alerts/groups", self.groups),
            web.get("/api/v2/silences", self.list_silences),
            web.post("/api/v2/silences", self.post_silence),
            web.get("/api/v2/silence/{id}", self.get_silence),
            web.delete("/api/v2/silence/{id}", self.delete_silence),
            web.get("/-/ready", self.ready),
            web.get("/-/healthy", self.ready),
        ]

    async def ready(self, request: web.Request) -> web.Response:
        """Always."""
        return web.Response(text="OK")

    async def status(self, request: web.Request) -> web.Response:
        """Version and uptime."""
        return web.json_response(
            {
                "cluster": {"status": "disabled", "peers": []},
                "versionInfo": {"version": "0.27.0-opsbus-sandbox", "revision": "", "branch": "", "goVersion": ""},
                "config": {"original": f"route:\n  receiver: {RECEIVER}\n"},
                "uptime": stamp(self.started),
            }
        )

    async def receivers(self, request: web.Request) -> web.Response:
        """Names of receivers."""
        return web.json_response([{"name": RECEIVER}])

    async def alerts(self, request: web.Request) -> web.Response:
        """Alerts that pass the filters."""
        try:
            return web.json_response(self._alerts(request))
        except BadSilenceError as error:
            return web.json_response(str(error), status=400)

    async def groups(self, request: web.Request) -> web.Response:
        """Alerts grouped by name and namespace."""
        try:
            alerts = self._alerts(request)
        except BadSilenceError as error:
            return web.json_response(str(error), status=400)
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for alert in alerts:
            groups.setdefault(tuple(alert["labels"].get(name, "") for name in GROUP_BY), []).append(alert)
        return web.json_response(
            [
                {
                    "labels": {name: value for name, value in zip(GROUP_BY, key, strict=True) if value},
                    "receiver": {"name": RECEIVER},
                    "alerts": members,
                }
                for key, members in sorted(groups.items())
            ]
        )

    async def list_silences(self, request: web.Request) -> web.Response:
        """Silences that pass the filters."""
        try:
            wanted = [parse_filter(text) for text in request.query.getall("filter", [])]
        except BadSilenceError as error:
            return web.json_response(str(error), status=400)
        now = self.clock()
        found = [s for s in self.silences.by_id.values() if all(_about(m, s.matchers) for m in wanted)]
        return web.json_response([silence.to_json(now) for silence in found])

    async def post_silence(self, request: web.Request) -> web.Response:
        """Create or replace a silence."""
        try:
            silence = self.silences.put(await request.json())
        except BadSilenceError as error:
            return web.json_response(str(error), status=400)
        except ValueError as error:
            return web.json_response({"code": 400, "message": f"parsing silence body failed: {error}"}, status=400)
        except KeyError:
            return web.json_response("silence not found", status=404)
        return web.json_response({"silenceID": silence.id})

    async def get_silence(self, request: web.Request) -> web.Response:
        """One silence."""
        silence = self.silences.by_id.get(request.match_info["id"])
        if silence is None:
            return web.Response(status=404)
        return web.json_response(silence.to_json(self.clock()))

    async def delete_silence(self, request: web.Request) -> web.Response:
        """Expire a silence."""
        try:
            self.silences.expire(request.match_info["id"])
        except KeyError:
            return web.Response(status=404)
        except BadSilenceError as error:
            return web.json_response(str(error), status=500)
        return web.Response(status=200)

    def _alerts(self, request: web.Request) -> list[dict[str, Any]]:
        wanted = [parse_filter(text) for text in request.query.getall("filter", [])]
        shown = {name: _flag(request, name) for name in ("active", "silenced", "inhibited")}
        firing = self.alerting.firing()
        out = []
        for alert in firing:
            if not all(matcher.holds(alert.labels) for matcher in wanted):
                continue
            silenced, inhibited = self.silences.muting(alert.labels), _inhibitors(alert, firing)
            if (silenced and not shown["silenced"]) or (inhibited and not shown["inhibited"]):
                continue
            if not silenced and not inhibited and not shown["active"]:
                continue
            out.append(self._to_json(alert, silenced, inhibited))
        return sorted(out, key=lambda item: (item["labels"]["alertname"], item["fingerprint"]))

    def _to_json(self, alert: Alert, silenced: list[str], inhibited: list[str]) -> dict[str, Any]:
        now = self.clock()
        return {
            "annotations": alert.annotations,
            "labels": alert.labels,
            "startsAt": stamp(alert.active_since),
            "updatedAt": stamp(now),
            "endsAt": stamp(now + 240),
            "fingerprint": fingerprint(alert.labels),
            "receivers": [{"name": RECEIVER}],
            "status": {
                "state": "suppressed" if silenced or inhibited else "active",
                "silencedBy": silenced,
                "inhibitedBy": inhibited,
                "mutedBy": [],
            },
            "generatorURL": "http://prometheus.platform/graph",
        }


def fingerprint(labels: Labels) -> str:
    """16 hex digits, equal for equal labels."""
    return hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16]


def _inhibitors(alert: Alert, firing: list[Alert]) -> list[str]:
    if alert.labels.get("severity") != "warning":
        return []
    same = ("namespace", "service")
    return [
        fingerprint(other.labels)
        for other in firing
        if other.labels.get("severity") == "critical"
        and all(other.labels.get(name) and other.labels.get(name) == alert.labels.get(name) for name in same)
    ]


def _about(wanted: LabelMatcher, matchers: tuple[LabelMatcher, ...]) -> bool:
    return any(m.name == wanted.name and wanted.holds({m.name: m.value}) for m in matchers)


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "true")
    if text not in ("true", "false"):
        raise BadSilenceError(f"{name} in query must be of type boolean: {text!r}")
    return text == "true"
