"""k8s_diagnose_workload: reads all that speaks for or against a workload, at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from opsbus import Context
from opsbus.permission import decide, touched
from opsbus.when import parse_when
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.arguments import Cluster, Namespace, Workload
from opsbus_k8s_ops.autoscaling import autoscalers
from opsbus_k8s_ops.beside import FiringAlert
from opsbus_k8s_ops.cluster import ANSWER_MARGIN_S, Clusters
from opsbus_k8s_ops.diagnosis import Diagnosis, Finding, LogTail, fit
from opsbus_k8s_ops.eventrows import Event, about_of, merge, read_event
from opsbus_k8s_ops.family import Family
from opsbus_k8s_ops.findings import LEVELS, Parts, find
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_k8s_ops.logstream import LogQuery, Source
from opsbus_k8s_ops.logtargets import KINDS, find_workload, selector_of, sources_of
from opsbus_k8s_ops.models import Autoscaler
from opsbus_k8s_ops.objects import annotations, meta, owner_of
from opsbus_k8s_ops.podhealth import Health, pod_health
from opsbus_k8s_ops.probes import probe_rows
from opsbus_k8s_ops.revisions import Revision, TemplateChange, revisions_of, template_changes
from opsbus_k8s_ops.rollout import rollout_of
from opsbus_k8s_ops.rolloutmodels import RevisionRow, condition_rows, said
from opsbus_k8s_ops.tool_logs import read_all
from opsbus_k8s_ops.tool_pods import pod_row
from opsbus_k8s_ops.tool_rollout_history import history_rows
from opsbus_k8s_ops.tool_rollout_status import POD_FIELDS, counts_of, optional_part

PODS_SHOWN, EVENTS_SHOWN, ROLLOUTS_SHOWN, CHANGES_SHOWN, ALERTS_SHOWN = 8, 12, 3, 12, 8
LOGS_OF_PODS, LOGS_MAX = 2, 3
LINE_CHARS_MAX = 300
LOG_READ_S = 10.0
"""The logs may take this long: the rest is worth having without them. Seconds."""

EVENT_FIELDS = frozenset({"count", "objects", "message", "age_s"})
ROLLOUT_FIELDS = frozenset({"age_s", "images", "change_cause", "replicas", "ready", "changes"})

Judged = list[tuple[Health, Obj]]


@dataclass(frozen=True)
class _Read:
    """The parts that were read; None: could not be."""

    pods: Judged | None
    events: list[Event] | None
    revisions: list[Revision] | None
    hpa: Autoscaler | None


async def diagnose_workload(
    ctx: Context[Clusters],
    namespace: Namespace,
    workload: Annotated[Workload, Field(description="checkout, or statefulset/redis.")],
    since: Annotated[
        str, Field(max_length=64, description="Events told last since then. RFC 3339, now-1h, or 15m.")
    ] = "1h",
    log_lines: Annotated[
        int, Field(ge=0, le=100, description="Last lines of the log of each pod in trouble; 0: none.")
    ] = 15,
    cluster: Cluster = None,
) -> Diagnosis:
    """What is wrong with a workload, in one call: findings, the gravest first, and what they rest on.

    Reads rollout, conditions, pods, events, probes, autoscaler, the latest rollouts with what each changed, alerts,
    owner, and the last log lines of the pods in trouble (the run that died). Start here when a workload is known; with
    k8s_get_pods problem_only=true when it is not. Changes nothing. Example: namespace="shop", workload="checkout".
    """
    clusters, now = ctx.state, datetime.now(UTC)
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    after = parse_when(since, "since", now)
    obj = await find_workload(api, namespace, workload)
    warnings: list[str] = []
    read = await _read(api, obj, clusters.bounds, after, now, warnings)
    rollout, pods, revisions = rollout_of(obj), read.pods or [], read.revisions or []
    troubled = [(health, pod) for health, pod in pods if not health.healthy]
    logs = await _logs(ctx, api, troubled, log_lines, now, warnings) if troubled and log_lines else []
    template = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    probes = probe_rows(template, read.events or [])
    parts = Parts(obj, rollout, pods, read.events or [], revisions, _changes(revisions), probes, read.hpa, now)
    findings = find(parts)
    kind, name = str(obj.get("kind")), str(meta(obj).get("name"))
    alerts = _alerts(ctx, api, namespace, name, warnings)
    findings = with_alerts(findings, alerts)
    owned, noted = clusters.beside.owner(namespace, name), owner_of(obj)
    events = sorted(merge(read.events or [], now, EVENT_FIELDS), key=lambda item: item[0])
    diagnosis = Diagnosis(
        cluster=api.name,
        namespace=namespace,
        workload=f"{kind}/{name}",
        healthy=rollout.healthy and not troubled,
        state=rollout.state,
        verdict=findings[0].what,
        findings=findings[:12],
        next_steps=_next_steps(parts, f"{kind.lower()}/{name}", namespace),
        replicas=counts_of(rollout),
        owner=noted or (owned.owner_team if owned else None),
        owner_from="object" if noted else "cmdb" if owned else None,
        contact=owned.contact if owned else None,
        alerts=alerts[:ALERTS_SHOWN],
        runbook=said(next((text for key, text in annotations(obj).items() if key.endswith("runbook")), None)),
        hpa=read.hpa,
        conditions=condition_rows(obj, now)[:6],
        pod_states=dict(Counter(health.state for health, _ in pods).most_common(12)),
        pods=[pod_row(pod, health, now, POD_FIELDS) for health, pod in troubled[:PODS_SHOWN]],
        probes=probes[:10],
        events=[row for _, row in events[:EVENTS_SHOWN]],
        rollouts=_rollouts(revisions, now),
        logs=logs,
        warnings=[*warnings, *_beyond(troubled, len(events))],
        as_of=now,
        source=f"kubernetes:{api.name}/{KINDS[kind.lower()]}",
    )
    return fit(diagnosis)


def _alerts(
    ctx: Context[Clusters], api: ClusterApi, namespace: str, name: str, warnings: list[str]
) -> list[FiringAlert]:
    """Those that fire for the workload; only for those who may read alerts."""
    clusters, who = ctx.state, ctx.identity
    found = clusters.beside.firing(namespace, name, [other for other in clusters.names if other != api.name])
    if found and not decide(tuple(who.permissions), who.grants, "alerts:read", touched(ctx.arguments, {})).permitted:
        warnings.append("alerts are not shown: they need the permission alerts:read")
        return []
    if len(found) > ALERTS_SHOWN:
        warnings.append(f"{len(found) - ALERTS_SHOWN} more alerts fire for it: monitoring_get_alerts")
    return found


def with_alerts(findings: list[Finding], alerts: list[FiringAlert]) -> list[Finding]:
    """The findings with what the alerts say, after what the cluster itself says of the same weight."""
    if not alerts:
        return findings
    several = f"{len(alerts)} alerts fire" if len(alerts) > 1 else "an alert fires"
    names = ", ".join(dict.fromkeys(f"{alert.name} ({alert.severity or 'no severity'})" for alert in alerts))
    told = [f"{alert.name} since {alert.since}" + (f": {alert.summary}" if alert.summary else "") for alert in alerts]
    finding = Finding(level="warning", what=f"{several} for it: {names}"[:500], evidence=told[:3])
    return sorted([*findings, finding], key=lambda one: LEVELS.index(one.level))


async def _read(
    api: ClusterApi, obj: Obj, bounds: Bounds, after: datetime, now: datetime, warnings: list[str]
) -> _Read:
    """All parts at once; what cannot be read becomes a warning, for the others are worth having."""
    pods, events, revisions, hpa = await asyncio.gather(
        optional_part(_pods(api, obj, bounds, now, warnings), "pods", warnings),
        optional_part(_events(api, obj, bounds, after, warnings), "events", warnings),
        optional_part(revisions_of(api, obj, bounds), "revisions", warnings),
        optional_part(_autoscaler(api, obj, warnings), "autoscalers", warnings),
    )
    return _Read(pods, events, revisions, hpa)


async def _pods(api: ClusterApi, obj: Obj, bounds: Bounds, now: datetime, warnings: list[str]) -> Judged:
    listing = await list_objects(
        api,
        "pods",
        str(meta(obj).get("namespace")),
        lambda pod: (pod_health(pod, now), pod),
        bounds,
        labels=selector_of(obj),
    )
    if not listing.complete:
        warnings.append(f"only the first {len(listing.items)} pods were looked at")
    return sorted(listing.items, key=lambda item: (item[0].severity, str(meta(item[1]).get("name"))))


async def _events(api: ClusterApi, obj: Obj, bounds: Bounds, after: datetime, warnings: list[str]) -> list[Event]:
    family = Family(str(obj.get("kind")), str(meta(obj).get("name")))

    def keep(raw: Obj) -> Event | None:
        about = about_of(raw)
        if not family.covers(str(about.get("kind") or ""), str(about.get("name") or "")):
            return None
        event = read_event(raw)
        return event if event.last >= after else None

    listing = await list_objects(api, "events", str(meta(obj).get("namespace")), keep, bounds)
    if not listing.complete:
        warnings.append(f"only the first {len(listing.items)} events of the namespace were looked at")
    return [event for event in listing.items if event is not None]


async def _autoscaler(api: ClusterApi, obj: Obj, warnings: list[str]) -> Autoscaler | None:
    namespace = str(meta(obj).get("namespace"))
    found, told = await autoscalers(api, namespace)
    warnings += told
    return found.get((namespace, str(obj.get("kind")), str(meta(obj).get("name"))))


def _changes(revisions: Sequence[Revision]) -> list[TemplateChange]:
    """What the current revision changed."""
    for index, revision in enumerate(revisions[:-1]):
        if revision.current:
            return template_changes(revisions[index + 1].template, revision.template)
    return []


def _rollouts(revisions: list[Revision], now: datetime) -> list[RevisionRow]:
    rows = [row for _, row in history_rows(revisions[: ROLLOUTS_SHOWN + 1], now, ROLLOUT_FIELDS)]
    for row in rows:
        beyond = len(row.changes or []) - CHANGES_SHOWN
        if beyond > 0:
            row.changes = (row.changes or [])[:CHANGES_SHOWN]
            row.changes_left_out = (row.changes_left_out or 0) + beyond
    return rows[:ROLLOUTS_SHOWN]


async def _logs(
    ctx: Context[Clusters], api: ClusterApi, troubled: Judged, lines: int, now: datetime, warnings: list[str]
) -> list[LogTail]:
    """The ends of the logs of the worst pods, one of each kind of trouble; only for those who may read logs."""
    who = ctx.identity
    if not decide(tuple(who.permissions), who.grants, "k8s:logs", touched(ctx.arguments, {})).permitted:
        warnings.append("logs are not shown: they need the permission k8s:logs")
        return []
    by_cause: dict[str, Obj] = {}
    for health, pod in troubled:
        # Of a pod that is on no node nothing has run.
        if (pod.get("spec") or {}).get("nodeName") or (pod.get("status") or {}).get("containerStatuses"):
            by_cause.setdefault(health.cause or health.state, pod)
    sources: list[Source] = []
    for pod in list(by_cause.values())[:LOGS_OF_PODS]:
        found = sources_of(pod, None, "auto", now)
        # The run that died says why; the one that has just begun does not.
        died = [source for source in found if source.previous]
        sources += (died or found)[:LOGS_OF_PODS]
    query = LogQuery(tail=lines, bytes_max=ctx.state.settings.log_scan_bytes_max)
    patient = api.patient(min(LOG_READ_S, ctx.remaining_s - ANSWER_MARGIN_S))
    scans = await optional_part(read_all(patient, sources[:LOGS_MAX], query), "logs", warnings)
    return [
        LogTail(
            pod=scan.source.pod,
            container=scan.source.container,
            previous=scan.source.previous,
            lines=[f"{line.time} {_short(line.text)}" for line in scan.lines],
            note=scan.note,
        )
        for scan in scans or []
    ]


def _short(text: str) -> str:
    return text if len(text) <= LINE_CHARS_MAX else f"{text[:LINE_CHARS_MAX]}..."


def _beyond(troubled: Judged, events: int) -> list[str]:
    """What there is more of, and where."""
    found = []
    if len(troubled) > PODS_SHOWN:
        found.append(f"{len(troubled) - PODS_SHOWN} more pods are in trouble: k8s_get_pods problem_only=true")
    if events > EVENTS_SHOWN:
        found.append(f"{events - EVENTS_SHOWN} more rows of events: k8s_get_events with the workload as object")
    return found


def _next_steps(parts: Parts, workload: str, namespace: str) -> list[str]:
    """What a person would do now, as calls."""
    steps = []
    where = f'namespace="{namespace}", workload="{workload}"'
    if any(not health.healthy for health, _ in parts.pods):
        steps.append(f"k8s_get_pod_logs {where}, mode=patterns: what its pods say, counted")
    older = [revision for revision in parts.revisions if not revision.current]
    if parts.rollout.state in ("stuck", "failing", "degraded") and older and parts.changes:
        steps.append(f"k8s_rollout_history {where}: revision {older[0].number} is what there was before")
        if parts.workload.get("kind") == "Deployment":
            name = meta(parts.workload).get("name")
            steps.append(
                f'k8s_rollback_deployment namespace="{namespace}", name="{name}", to_revision={older[0].number},'
                " dry_run=true: the plan of the smallest change, if the newest rollout is the cause"
            )
    if parts.rollout.state == "progressing":
        steps.append(f"k8s_rollout_status {where}, wait_s=60: whether it comes to an end")
    steps.append("monitoring_get_alerts and monitoring_query_metrics: since when, and whom it reaches")
    return steps
