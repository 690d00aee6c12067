"""k8s_cordon_node."""

from typing import Annotated, Any

from pydantic import Field

from opsbus import Change, Context, Plan, Undo
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.arguments import Cluster, Confirm, DryRun, ExpectedVersion, IdempotencyKey, Name, Reason
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.nodemodels import CordonOutcome
from opsbus_k8s_ops.nodes import elsewhere_warnings, get_node, is_unschedulable, node_warnings, require_whole_cluster
from opsbus_k8s_ops.objects import meta
from opsbus_k8s_ops.writes import now, patch_unless_changed, require_version, seen_after, version_of

SCHEDULER_TAINT = "node.kubernetes.io/unschedulable"
"""The cluster's own mark of a cordon; it comes and goes with it."""


async def cordon_node(
    ctx: Context[Clusters],
    node: Annotated[Name, Field(description="The node's name.")],
    reason: Reason,
    uncordon: Annotated[bool, Field(description="The other way: let it have new pods again.")] = False,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: ExpectedVersion = None,
    cluster: Cluster = None,
) -> CordonOutcome:
    """Close a node to new pods, or with uncordon=true open it again, after a person confirmed the plan.

    Pods that run on it stay; k8s_drain_node moves them away. Nodes: k8s_get_resource kind="node". Example:
    node="lab-worker-2", reason="disk errors".
    """
    clusters = ctx.state
    require_whole_cluster(clusters)
    api = clusters.api(ctx, cluster)
    obj = await get_node(api, node)
    require_version(obj, expected_version, f"node {node}")
    found: dict[str, Any] = {"cluster": api.name, "node": node}
    if is_unschedulable(obj) is not uncordon:
        version = str(meta(obj).get("resourceVersion"))
        return CordonOutcome(outcome="unchanged", unschedulable=not uncordon, version=version, as_of=now(), **found)
    plan = await plan_cordon(api, obj, reason, cluster, uncordon=uncordon)
    change = cordon_patch(uncordon=uncordon)
    doing = f"{'uncordon' if uncordon else 'cordon'} node {node}"
    await api.patch(path_of("nodes", None, node), change, doing, dry_run=True)
    if dry_run:
        return CordonOutcome(outcome="planned", plan=plan, unschedulable=is_unschedulable(obj), as_of=now(), **found)
    await ctx.confirm(plan, version=version_of(obj), confirm=confirm)
    strict = expected_version is not None
    written = await patch_unless_changed(api, obj, (node,), change, doing, strict=strict, resource="nodes")
    await ctx.emit("node_uncordoned" if uncordon else "node_cordoned", found | {"reason": reason}, subject=node)
    seen, warnings = await seen_after(api, path_of("nodes", None, node), f"node {node}")
    return CordonOutcome(
        outcome="done",
        unschedulable=is_unschedulable(seen or written),
        verified=seen is not None and is_unschedulable(seen) is not uncordon,
        undo=plan.undo,
        version=str(meta(seen or written).get("resourceVersion", "")),
        warnings=[*plan.warnings, *warnings],
        as_of=now(),
        **found,
    )


def cordon_patch(*, uncordon: bool) -> Obj:
    """The merge patch: what is false is left out, as the API's own tools do."""
    return {"spec": {"unschedulable": None if uncordon else True}}


async def plan_cordon(api: ClusterApi, obj: Obj, reason: str, cluster: str | None, *, uncordon: bool) -> Plan:
    """What would be done, and what to know about it. Nothing in it varies by the second."""
    node = str(meta(obj).get("name"))
    warnings = node_warnings(obj)
    if uncordon:
        taints = [
            f"{taint.get('key')}:{taint.get('effect')}"
            for taint in (obj.get("spec") or {}).get("taints") or []
            if taint.get("effect") in ("NoSchedule", "NoExecute") and taint.get("key") != SCHEDULER_TAINT
        ]
        if taints:
            warnings.append(f"its taints keep ordinary pods away all the same: {', '.join(taints)}")
    else:
        warnings += await elsewhere_warnings(api, node)
    verb, effect = ("Uncordon", "new pods may be put on it") if uncordon else ("Cordon", "new pods go to other nodes")
    return Plan(
        summary=f"{verb} node {node} in cluster {api.name} ({reason})",
        changes=[
            Change(path="spec.unschedulable", before=is_unschedulable(obj), after=not uncordon),
        ],
        blast_radius=f"{effect}; what runs on it stays",
        undo=uncordon_undo(node, reason, cluster, uncordon=not uncordon),
        warnings=warnings,
    )


def uncordon_undo(node: str, reason: str, cluster: str | None, *, uncordon: bool = True) -> Undo:
    """The call that opens a node again (or closes it)."""
    arguments: dict[str, Any] = {"node": node, "uncordon": uncordon, "reason": f"undo: {reason}"[:500]}
    return Undo(tool="k8s_cordon_node", arguments=arguments | ({"cluster": cluster} if cluster else {}))
