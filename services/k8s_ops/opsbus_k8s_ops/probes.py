"""Health checks of a template's containers as rows, with what events tell of their failures. Pure functions."""

from collections.abc import Sequence
from typing import Any, Literal

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.diagnosis import ProbeRow
from opsbus_k8s_ops.eventrows import Event
from opsbus_k8s_ops.masking import mask_text

KINDS: tuple[tuple[Literal["readiness", "liveness", "startup"], str], ...] = (
    ("readiness", "readinessProbe"),
    ("liveness", "livenessProbe"),
    ("startup", "startupProbe"),
)
CHECK_CHARS_MAX = 200


def probe_rows(template: Obj, events: Sequence[Event]) -> list[ProbeRow]:
    """Every probe of a pod's spec."""
    rows = []
    containers = template.get("containers") or []
    for container in containers:
        for kind, key in KINDS:
            probe = container.get(key)
            if not probe:
                continue
            told = [event for event in events if _is_about(event, kind, str(container.get("name")), len(containers))]
            rows.append(
                ProbeRow(
                    container=str(container.get("name", "")),
                    probe=kind,
                    check=mask_text(_check(probe))[:CHECK_CHARS_MAX],
                    period_s=int(probe.get("periodSeconds") or 10),
                    timeout_s=int(probe.get("timeoutSeconds") or 1),
                    failures_allowed=int(probe.get("failureThreshold") or 3),
                    delay_s=int(probe.get("initialDelaySeconds") or 0) or None,
                    failed=sum(event.count for event in told) or None,
                    message=max(told, key=lambda event: event.last).message if told else None,
                )
            )
    return rows


def _is_about(event: Event, kind: str, container: str, containers: int) -> bool:
    if event.reason != "Unhealthy" or not event.message.lower().startswith(f"{kind} probe"):
        return False
    return event.container == container or (not event.container and containers == 1)


def _check(probe: dict[str, Any]) -> str:
    if get := probe.get("httpGet"):
        scheme = "" if str(get.get("scheme") or "HTTP") == "HTTP" else f"{get['scheme'].lower()} "
        return f"{scheme}GET :{get.get('port')}{get.get('path') or '/'}"
    if tcp := probe.get("tcpSocket"):
        return f"tcp :{tcp.get('port')}"
    if grpc := probe.get("grpc"):
        return f"grpc :{grpc.get('port')} {grpc.get('service') or ''}".strip()
    if run := probe.get("exec"):
        return f"exec {' '.join(map(str, run.get('command') or []))}"
    return "nothing"
