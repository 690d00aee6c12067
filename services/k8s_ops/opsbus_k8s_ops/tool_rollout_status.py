"""k8s_rollout_status."""

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.arguments import Cluster, Namespace, WaitSeconds, Workload
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import Bounds, list_objects
from opsbus_k8s_ops.logtargets import KINDS, find_workload, selector_of
from opsbus_k8s_ops.models import PodRow
from opsbus_k8s_ops.objects import annotations, images_of, meta
from opsbus_k8s_ops.podhealth import pod_health
from opsbus_k8s_ops.revisions import CHANGE_CAUSE, REVISION, revisions_of
from opsbus_k8s_ops.rollout import Rollout, rollout_of
from opsbus_k8s_ops.rolloutmodels import RolloutStatus, condition_rows, replica_sets, said
from opsbus_k8s_ops.tool_pods import pod_row
from opsbus_k8s_ops.writes import POLL_EVERY_S, Replicas

T = TypeVar("T")

PODS_SHOWN = 10
POD_FIELDS = frozenset({"state", "cause", "reason", "ready", "restarts", "age_s", "node"})

FAULTS_MAX = 5
"""Looks in a row that may fail while a rollout is watched."""

KEPT_FOR_ANSWER_S = 5.0
"""Of the call's time: to read the parts and to answer. Seconds."""


async def rollout_status(
    ctx: Context[Clusters],
    namespace: Namespace,
    workload: Annotated[Workload, Field(description="checkout, or statefulset/redis.")],
    wait_s: Annotated[WaitSeconds, Field(description="Watch it until it ends, at most so many seconds.")] = 0,
    cluster: Cluster = None,
) -> RolloutStatus:
    """How the rollout of a deployment, stateful or daemon set stands: state, replicas by revision, the pods in its way.

    With wait_s it is watched until it is complete, stuck or failing, and its progress is told meanwhile: use it after
    a change. What earlier rollouts changed is in k8s_rollout_history. Example: namespace="shop", workload="checkout",
    wait_s=60.
    """
    clusters = ctx.state
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    obj = await find_workload(api, namespace, workload)
    warnings: list[str] = []
    begun = time.monotonic()
    timed_out = False
    if wait_s:
        obj, timed_out = await watch(ctx, api, obj, wait_s, warnings)
    waited_s = round(time.monotonic() - begun, 1) if wait_s else None
    rollout, now = rollout_of(obj), datetime.now(UTC)
    revisions, pods = await asyncio.gather(
        optional_part(revisions_of(api, obj, clusters.bounds), "revisions", warnings),
        optional_part(unhealthy_pods(api, obj, clusters.bounds, now), "pods", warnings),
    )
    current = next((revision for revision in revisions or [] if revision.current), None)
    return RolloutStatus(
        cluster=api.name,
        namespace=namespace,
        workload=f"{obj.get('kind')}/{meta(obj).get('name')}",
        state=rollout.state,
        healthy=rollout.healthy,
        reason=said(rollout.reason),
        replicas=counts_of(rollout),
        revision=annotations(obj).get(REVISION) or (str(current.number) if current else None),
        change_cause=said(annotations(obj).get(CHANGE_CAUSE)),
        images=images_of(((obj.get("spec") or {}).get("template") or {}).get("spec") or {}),
        replica_sets=replica_sets(revisions or [])[:PODS_SHOWN],
        conditions=condition_rows(obj, now),
        pods=(pods or [])[:PODS_SHOWN],
        pods_unhealthy=len(pods) if pods is not None else None,
        waited_s=waited_s,
        timed_out=timed_out if wait_s else None,
        version=meta(obj).get("resourceVersion"),
        warnings=warnings,
        as_of=now,
        source=f"kubernetes:{api.name}/{KINDS[str(obj.get('kind')).lower()]}",
    )


def counts_of(rollout: Rollout) -> Replicas:
    """The numbers."""
    return Replicas(desired=rollout.desired, ready=rollout.ready, updated=rollout.updated, available=rollout.available)


async def watch(
    ctx: Context[Clusters], api: ClusterApi, obj: Obj, wait_s: float, warnings: list[str]
) -> tuple[Obj, bool]:
    """The workload once its rollout has come to an end, or as it stands when the wait is over, and whether it is.

    A look that fails is repeated a few times: a rollout takes longer than an API server's hiccup.

    Raises:
        ToolError: ``not_found`` when the workload is deleted meanwhile; the cluster's, when looking keeps failing.
    """
    namespace, name = str(meta(obj).get("namespace")), str(meta(obj).get("name"))
    kind = str(obj.get("kind"))
    path = path_of(KINDS[kind.lower()], namespace, name)
    ends = time.monotonic() + min(wait_s, ctx.remaining_s - KEPT_FOR_ANSWER_S)
    faults = 0
    while True:
        rollout = rollout_of(obj)
        if rollout.state != "progressing":
            return obj, False
        if time.monotonic() + POLL_EVERY_S > ends:
            return obj, True
        said_now = f"{rollout.updated} of {rollout.desired} updated, {rollout.available} available"
        await ctx.progress(rollout.updated + rollout.available, 2 * rollout.desired, said_now)
        await asyncio.sleep(POLL_EVERY_S)
        try:
            obj = {"kind": kind, **await api.get(path, f"read {kind} {namespace}/{name}")}
            faults = 0
        except ToolError as error:
            faults += 1
            if not error.retryable or faults >= FAULTS_MAX:
                raise
            if faults == 1:
                warnings.append(f"the cluster did not answer every look: {error.message}")


async def unhealthy_pods(api: ClusterApi, workload: Obj, bounds: Bounds, now: datetime) -> list[PodRow]:
    """The pods that are not well, the worst first."""
    namespace = str(meta(workload).get("namespace"))
    listing = await list_objects(
        api,
        "pods",
        namespace,
        lambda pod: (pod_health(pod, now), pod),
        bounds,
        labels=selector_of(workload),
    )
    troubled = [(health, pod) for health, pod in listing.items if not health.healthy]
    troubled.sort(key=lambda item: (item[0].severity, str(meta(item[1]).get("name"))))
    return [pod_row(pod, health, now, POD_FIELDS) for health, pod in troubled]


async def optional_part(part: Awaitable[T], name: str, warnings: list[str]) -> T | None:
    """A part of an answer that is useful without it: what fails becomes a warning."""
    try:
        return await part
    except ToolError as error:
        what = "may not be read by you" if error.code is ErrorCode.FORBIDDEN else "could not be read"
        warnings.append(f"{name} {what}: {error.message}")
        return None
