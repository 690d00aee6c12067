"""monitoring_health_check."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking
from opsbus_monitoring.matchers import parse_matchers
from opsbus_monitoring.querymodels import optional
from opsbus_monitoring.summary import rounded
from opsbus_monitoring.tool_alerts import read_alerts

State = Literal["healthy", "degraded", "unhealthy", "unknown"]
ORDER: tuple[State, ...] = ("unhealthy", "degraded", "unknown", "healthy")
"""The worst first: of lists, and of the verdict over all."""

SLOW_MS = 1_000
ERRORS_DEGRADED, ERRORS_UNHEALTHY = 0.01, 0.05
"""Shares of failed requests."""

TARGETS_NAMED = 5


class Health(BaseModel):
    """One dependency."""

    name: str
    kind: Literal["system", "targets", "signal", "alerts"]
    state: State
    latency_ms: float | None = optional("Of the probe.")
    value: float | None = optional()
    unit: str | None = optional()
    version: str | None = optional()
    reason: str | None = optional("Why it is not healthy.")

    def to_text(self) -> str:
        """One line."""
        shown = f" {self.value:g} {self.unit or ''}".rstrip() if self.value is not None else ""
        probe = f" ({self.latency_ms:g} ms)" if self.latency_ms is not None else ""
        return f"{self.state}: {self.name}{shown}{probe}" + (f" - {self.reason}" if self.reason else "")


class HealthReport(BaseModel):
    """The verdict, and what it is made of, the worst first."""

    state: State = Field(description="The worst of all that matters.")
    subject: str = Field(description="The service, or the scope.")
    checks: list[Health]
    as_of: datetime

    def to_text(self) -> str:
        """A line per check."""
        return "\n".join([f"{self.subject}: {self.state}", *(check.to_text() for check in self.checks)])


async def health_check(
    ctx: Context[Backends],
    service: Annotated[
        str | None, Field(min_length=1, max_length=200, description="One service: traffic, errors, latency, alerts.")
    ] = None,
    namespace: Annotated[
        str | None, Field(min_length=1, max_length=63, description="Of the service, where it is in several.")
    ] = None,
    scope: Annotated[
        Literal["all", "systems", "targets", "alerts"], Field(description="Without a service: what to look at.")
    ] = "all",
) -> HealthReport:
    """Whether a service is well, by its metrics and alerts; or whether the monitoring is, with every scrape target.

    Each dependency has a state (healthy, degraded, unhealthy, unknown), the latency of its probe and a reason.
    """
    backends = ctx.state
    if service is not None:
        checks = await check_service(backends, service, namespace)
        return _report(service if namespace is None else f"{namespace}/{service}", checks)
    if namespace is not None:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "namespace belongs to a service", hint="Give service as well.")
    checks = []
    if scope in ("all", "systems"):
        checks += await check_systems(backends)
    if scope in ("all", "targets"):
        checks += await _guarded("targets", "targets", check_targets(backends))
    if scope in ("all", "alerts"):
        checks += await _guarded("alerts", "alerts", check_alerts(backends, None, None))
    return _report(scope, checks)


async def check_systems(backends: Backends) -> list[Health]:
    """Prometheus, Alertmanager and Grafana, probed at once."""

    async def prometheus() -> str:
        return await backends.prometheus.version()

    async def alertmanager() -> str:
        return str((await backends.alertmanager.status()).get("versionInfo", {}).get("version", ""))

    async def grafana() -> str:
        return str((await backends.grafana.health()).get("version", ""))

    probes = {"Prometheus": prometheus, "Alertmanager": alertmanager, "Grafana": grafana}
    timeout_s = backends.settings.probe_timeout_s
    return list(await asyncio.gather(*(_probe(name, probe, timeout_s) for name, probe in probes.items())))


async def _probe(name: str, probe: Callable[[], Awaitable[str]], timeout_s: float) -> Health:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            version = await probe()
    except TimeoutError:
        return Health(name=name, kind="system", state="unhealthy", reason=f"it did not answer within {timeout_s:g} s")
    except (BackendError, ToolError) as error:
        missing = isinstance(error, ToolError) and not error.retryable
        state: State = "unknown" if missing else "unhealthy"
        return Health(name=name, kind="system", state=state, reason=f"{error.message} {error.hint}".strip())
    latency_ms = round((time.monotonic() - begun) * 1_000, 1)
    slow = latency_ms > SLOW_MS
    return Health(
        name=name,
        kind="system",
        state="degraded" if slow else "healthy",
        latency_ms=latency_ms,
        version=version or None,
        reason=f"it took over {SLOW_MS} ms" if slow else None,
    )


async def check_targets(backends: Backends) -> list[Health]:
    """The scrape targets, by job."""
    targets = await backends.prometheus.targets()
    jobs: dict[str, list[dict[str, Any]]] = {}
    for target in targets:
        jobs.setdefault(str(target.get("labels", {}).get("job", "")), []).append(target)
    checks = []
    for job, members in jobs.items():
        down = [target for target in members if target.get("health") == "down"]
        said = "; ".join(
            f"{target['labels'].get('instance', '')}: {str(target.get('lastError', ''))[:120]}"
            for target in down[:TARGETS_NAMED]
        )
        state: State = "healthy" if not down else "unhealthy" if len(down) == len(members) else "degraded"
        slowest = max((float(target.get("lastScrapeDuration") or 0) for target in members), default=0.0)
        checks.append(
            Health(
                name=f"job {job}",
                kind="targets",
                state=state,
                latency_ms=round(slowest * 1_000, 1),
                value=len(members) - len(down),
                unit=f"of {len(members)} targets up",
                reason=said or None,
            )
        )
    return checks


async def check_alerts(backends: Backends, service: str | None, namespace: str | None) -> list[Health]:
    """Firing alerts, of everything or of one service. Alerts without severity or with none are no trouble."""
    texts = [f'namespace="{namespace}"'] if namespace else []
    rows, warnings = await read_alerts(backends, parse_matchers(texts), datetime.now(UTC))
    if service is not None:
        # Alerts name their service by its own label, or by the workload that makes its pods.
        names = (backends.settings.service_label, "service", "deployment", "app", "job", "container")
        rows = [row for row in rows if service in [row.labels.get(name) for name in names]]
    firing = [row for row in rows if row.state == "firing" and row.severity not in ("none", "")]
    if not firing:
        reason = "; ".join(warnings) or None
        return [Health(name="alerts", kind="alerts", state="unknown" if reason else "healthy", value=0, reason=reason)]
    critical = [row for row in firing if row.severity in ("critical", "page", "error")]
    said = ", ".join(dict.fromkeys(f"{row.name} ({row.severity})" for row in sorted(firing, key=lambda r: r.severity)))
    return [
        Health(
            name="alerts",
            kind="alerts",
            state="unhealthy" if critical else "degraded",
            value=len(firing),
            unit="firing",
            reason=said[:400],
        )
    ]


async def check_service(backends: Backends, service: str, namespace: str | None) -> list[Health]:
    """A service by its metrics and its alerts.

    Raises:
        ToolError: ``not_found`` for a service that no metric and no alert knows, with near names.
    """
    settings = backends.settings
    label = settings.service_label
    where = ",".join(
        f'{key}="{_quoted(value)}"' for key, value in ((label, service), ("namespace", namespace)) if value
    )
    total = f"sum(rate({settings.requests_metric}{{{where}}}[5m]))"
    failed = f'sum(rate({settings.requests_metric}{{{where},{settings.status_label}=~"5.."}}[5m]))'
    slow = f"histogram_quantile(0.99, sum by (le) (rate({settings.duration_metric}_bucket{{{where}}}[5m])))"
    with asking():
        rate, errors, p99 = await asyncio.gather(
            _value(backends, total), _value(backends, f"({failed} or vector(0)) / {total}"), _value(backends, slow)
        )
    alerts = await _guarded("alerts", "alerts", check_alerts(backends, service, namespace))
    if rate is None and not any(check.value for check in alerts):
        with asking():
            known = await backends.prometheus.label_values(label)
        if service not in known:
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"no metric has {label}={service!r}" + (f" in namespace {namespace!r}" if namespace else ""),
                hint=f"Services: {', '.join(known[:20])}." if known else f"No metric has the label {label}.",
                did_you_mean=near(service, known),
            )
    return [_traffic(rate), _errors(errors), _latency(p99), *alerts]


def _traffic(rate: float | None) -> Health:
    if rate is None:
        reason = "there is no request metric of it in this place"
        return Health(name="traffic", kind="signal", state="unknown", reason=reason)
    if rate == 0:
        return Health(name="traffic", kind="signal", state="unknown", value=0, unit="requests/s", reason="no requests")
    return Health(name="traffic", kind="signal", state="healthy", value=rounded(rate), unit="requests/s")


def _errors(share: float | None) -> Health:
    if share is None:
        return Health(name="errors", kind="signal", state="unknown", reason="no requests to fail")
    state: State = "unhealthy" if share >= ERRORS_UNHEALTHY else "degraded" if share >= ERRORS_DEGRADED else "healthy"
    reason = None if state == "healthy" else f"{share:.1%} of the requests fail with 5xx"
    return Health(name="errors", kind="signal", state=state, value=rounded(share), unit="of requests", reason=reason)


def _latency(p99: float | None) -> Health:
    if p99 is None:
        return Health(name="p99", kind="signal", state="unknown", reason="no histogram of durations")
    slow = p99 > SLOW_MS / 1_000
    reason = f"one request in a hundred takes over {p99:.2g} s" if slow else None
    return Health(
        name="p99", kind="signal", state="degraded" if slow else "healthy", value=rounded(p99), unit="s", reason=reason
    )


async def _value(backends: Backends, expr: str) -> float | None:
    result = await backends.prometheus.query(expr)
    return result.series[0].points[-1][1] if result.series else None


async def _guarded(name: str, kind: Literal["targets", "alerts"], checks: Awaitable[list[Health]]) -> list[Health]:
    """A part that cannot be looked at is unknown; it does not take the report away."""
    try:
        with asking():
            return await checks
    except ToolError as error:
        return [Health(name=name, kind=kind, state="unknown", reason=error.message)]


def _report(subject: str, checks: list[Health]) -> HealthReport:
    ordered = sorted(checks, key=lambda check: ORDER.index(check.state))
    # What is not known decides only when nothing else is known to be wrong.
    state = ordered[0].state if ordered else "unknown"
    return HealthReport(state=state, subject=subject, checks=ordered, as_of=datetime.now(UTC))


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
