"""k8s_drain_node."""

import asyncio
import time
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field

from opsbus import Context, ErrorCode, Executed, ToolError, Undo
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.arguments import Cluster, Confirm, DryRun, ExpectedVersion, IdempotencyKey, Name, Reason
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.draining import ORDER, Drain, Going, drained_pod, rehearse
from opsbus_k8s_ops.drainplan import Choice, confirmed_version, goes_and_stays, plan_drain, require_asked_for
from opsbus_k8s_ops.nodemodels import DrainCounts, DrainedPod, DrainOutcome
from opsbus_k8s_ops.nodes import NodePod, get_node, is_unschedulable, pods_on, require_whole_cluster
from opsbus_k8s_ops.objects import meta
from opsbus_k8s_ops.tool_cordon import cordon_patch, uncordon_undo
from opsbus_k8s_ops.writes import now, patch_unless_changed, require_version, seen_after

PODS_SHOWN = 40
"""Rows of an answer."""
PLANNED_MAX = 250
"""Pods of one drain: more, and nobody reads the plan."""
KEPT_FOR_ANSWER_S = 6.0
"""Of the call's time. Seconds."""
TELL_S = 0.3
"""For the event of a drain that was stopped. Seconds."""


async def drain_node(
    ctx: Context[Clusters],
    node: Annotated[Name, Field(description="The node's name.")],
    reason: Reason,
    force: Annotated[bool, Field(description="Also pods without a controller: nothing starts them again.")] = False,
    delete_local_data: Annotated[
        bool, Field(description="Also pods with emptyDir volumes: their data is lost.")
    ] = False,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: ExpectedVersion = None,
    wait_s: Annotated[int, Field(ge=10, le=570, description="It takes no longer; what is left then is told.")] = 240,
    cluster: Cluster = None,
) -> DrainOutcome:
    """Empty a node for maintenance: cordon it and evict its pods, after a person confirmed the plan with every pod.

    By evictions alone: disruption budgets decide when a pod goes, nothing is deleted past them. Pods of daemon sets
    and static ones stay. Not finished after wait_s: the answer says what is left and why, and the same call goes on.
    Only to keep new pods away: k8s_cordon_node. Example: node="lab-worker-2", reason="kernel update", dry_run=true.
    """
    clusters = ctx.state
    require_whole_cluster(clusters)
    api = clusters.api(ctx, cluster)
    obj = await get_node(api, node)
    require_version(obj, expected_version, f"node {node}")
    going, staying = goes_and_stays(await pods_on(api, node))
    require_few(node, going)
    found: dict[str, Any] = {"cluster": api.name, "node": node}
    if is_unschedulable(obj) and not going:
        version = str(meta(obj).get("resourceVersion"))
        counts = DrainCounts(total=0)
        return DrainOutcome(
            outcome="unchanged", unschedulable=True, complete=True, counts=counts, version=version, as_of=now(), **found
        )
    choice = Choice(force=force, delete_local_data=delete_local_data)
    if not dry_run:
        require_asked_for(node, going, choice)
    undo = uncordon_undo(node, reason, cluster)
    plan = await plan_drain(api, obj, [*going, *staying], choice, reason, undo)
    # The server's own dry run of all of it first: the caller's rights and what is held are known before anybody is
    # asked. What is held at this moment is no part of the plan: it varies.
    await api.patch(path_of("nodes", None, node), cordon_patch(uncordon=False), f"cordon node {node}", dry_run=True)
    rehearsed = await rehearse(api, going)
    if dry_run:
        shown = planned_rows(rehearsed, staying)
        return DrainOutcome(
            outcome="planned", plan=plan, unschedulable=is_unschedulable(obj), as_of=now(), **found, **bounded(shown)
        )
    await ctx.confirm(plan, version=confirmed_version(obj, going), confirm=confirm)
    begun = time.monotonic()
    ends = begun + min(wait_s, ctx.remaining_s - KEPT_FOR_ANSWER_S)
    if not is_unschedulable(obj):
        await patch_unless_changed(
            api,
            obj,
            (node,),
            cordon_patch(uncordon=False),
            f"cordon node {node}",
            strict=expected_version is not None,
            resource="nodes",
        )
    drain = Drain(api, node, going)
    try:
        await drain.run(ctx, ends)
    except asyncio.CancelledError:
        await told_in_time(ctx, drain, found, reason, stopped=True)
        raise cut_short(node, drain, plan.undo) from None
    await told_in_time(ctx, drain, found, reason, stopped=False)
    return await outcome_of(api, drain, found, plan.undo, plan.warnings, next_call(ctx, drain), begun)


def require_few(node: str, going: list[NodePod]) -> None:
    """
    Raises:
        ToolError: ``precondition_failed`` for more pods than a person would read the plan of.
    """
    if len(going) > PLANNED_MAX:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{len(going)} pods would have to leave node {node}, and this tool moves at most {PLANNED_MAX} at once",
            hint="Cordon it (k8s_cordon_node) and move some workloads away first.",
        )


def planned_rows(rehearsed: list[Going], staying: list[NodePod]) -> list[DrainedPod]:
    """Every pod of the node, what stands in the way first, then what is lost, then the rest."""
    rows = [going.row() for going in rehearsed] + [drained_pod(pod, "stays") for pod in staying]
    rows.sort(key=lambda row: (ORDER.index(row.fate), row.part == "managed", not row.local_storage))
    return rows


def bounded(rows: list[DrainedPod]) -> dict[str, Any]:
    """The rows that fit an answer."""
    return {"pods": rows[:PODS_SHOWN], "pods_left_out": max(0, len(rows) - PODS_SHOWN) or None}


async def told_in_time(
    ctx: Context[Clusters], drain: Drain, found: dict[str, Any], reason: str, *, stopped: bool
) -> None:
    """The event. A drain that was stopped has only a moment for it."""
    kind = "node_drained" if drain.complete else "node_drain_stopped" if stopped else "node_drain_unfinished"
    facts = found | {"reason": reason, "complete": drain.complete, "counts": drain.counts.model_dump()}
    telling = ctx.emit(kind, facts, subject=str(found["node"]))
    if not stopped:
        await telling
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(telling, TELL_S)


def cut_short(node: str, drain: Drain, undo: Undo | None) -> ToolError:
    """How far a drain came that was cancelled, or ran out of time."""
    counts = drain.counts
    return ToolError(
        ErrorCode.CANCELLED,
        f"the drain of node {node} stopped: it is cordoned, {counts.to_text()}; no further pod is asked to go",
        hint="The same call goes on with it; k8s_cordon_node with uncordon=true opens the node again.",
        details={
            "node": node,
            "counts": counts.model_dump(),
            "left": [f"{row.namespace}/{row.name}: {row.fate}" for row in drain.left()[:PODS_SHOWN]],
            "undo": undo.model_dump() if undo else None,
        },
        executed=Executed.UNKNOWN if counts.unknown else Executed.YES,
    )


def next_call(ctx: Context[Clusters], drain: Drain) -> Undo | None:
    """The call that goes on, when there is something left to wait for."""
    if drain.complete:
        return None
    once = ("confirm", "idempotency_key", "expected_version", "dry_run")
    return Undo(tool="k8s_drain_node", arguments={k: v for k, v in ctx.arguments.items() if k not in once})


async def outcome_of(
    api: ClusterApi,
    drain: Drain,
    found: dict[str, Any],
    undo: Undo | None,
    planned: list[str],
    goes_on: Undo | None,
    begun: float,
) -> DrainOutcome:
    """What came of it, proved by a last look at the node."""
    node = str(found["node"])
    seen: Obj | None
    seen, warnings = await seen_after(api, path_of("nodes", None, node), f"node {node}")
    cordoned = seen is not None and is_unschedulable(seen)
    if seen is not None and not cordoned:
        warnings.append("somebody opened the node again meanwhile: new pods may be on it")
    if drain.lost_sight:
        warnings.append(f"its pods could not be watched any more: {drain.lost_sight}")
    if drain.newcomers:
        shown = ", ".join(drain.newcomers[:10])
        warnings.append(f"{len(drain.newcomers)} pods came since the plan, and were not asked to go: {shown}")
    return DrainOutcome(
        outcome="done",
        complete=drain.complete,
        counts=drain.counts,
        unschedulable=cordoned if seen is not None else True,
        verified=cordoned and drain.complete and not drain.newcomers,
        undo=undo,
        next_call=goes_on,
        waited_s=round(time.monotonic() - begun, 1),
        version=str(meta(seen or {}).get("resourceVersion", "")) or None,
        warnings=[*planned, *warnings],
        as_of=now(),
        **found,
        **bounded(drain.left()),
    )
