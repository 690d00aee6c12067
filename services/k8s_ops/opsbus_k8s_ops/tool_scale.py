"""k8s_scale_deployment."""

from typing import Annotated, Any

from pydantic import Field

from opsbus import Change, Context, ErrorCode, Plan, ToolError, Undo
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.arguments import (
    Cluster,
    Confirm,
    DryRun,
    ExpectedVersion,
    IdempotencyKey,
    Name,
    Namespace,
    Reason,
    WaitSeconds,
)
from opsbus_k8s_ops.autoscaling import autoscalers, budgets_of, names, pods_needed
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import get_object
from opsbus_k8s_ops.models import optional
from opsbus_k8s_ops.objects import meta, owner_of
from opsbus_k8s_ops.rollout import rollout_of
from opsbus_k8s_ops.writes import (
    WriteOutcome,
    now,
    ownership_warnings,
    patch_unless_changed,
    replicas_of,
    require_version,
    version_of,
    watch_rollout,
)

JUMP_FACTOR, JUMP_REPLICAS = 2, 5
"""A change by more than this factor and this many replicas is called a jump."""


class ScaleOutcome(WriteOutcome):
    """What scaling did, or would do."""

    before: int | None = optional("Replicas before.")
    after: int | None = optional("Replicas asked for.")

    def to_text(self) -> str:
        """A few lines."""
        where = f"{self.namespace}/{self.name} in {self.cluster}"
        sentences = {
            "planned": f"Dry run, nothing was changed: {where} {self.before} -> {self.after} replicas.",
            "unchanged": f"{where} has {self.before} replicas already; nothing was done.",
            "done": f"Scaled {where} from {self.before} to {self.after} replicas.",
        }
        return self.told(sentences[self.outcome])


async def scale_deployment(
    ctx: Context[Clusters],
    namespace: Namespace,
    name: Annotated[Name, Field(description="The deployment.")],
    reason: Reason,
    replicas: Annotated[int | None, Field(ge=0, le=10_000, description="How many there shall be.")] = None,
    delta: Annotated[
        int | None, Field(ge=-10_000, le=10_000, description="How many more (or fewer) in place of replicas.")
    ] = None,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: ExpectedVersion = None,
    wait_s: WaitSeconds = 10,
    cluster: Cluster = None,
) -> ScaleOutcome:
    """Set the replicas of a deployment, after a person confirmed the plan.

    The plan tells what stands against it: an autoscaler that will overrule it, a disruption budget, GitOps, a jump,
    zero. The answer has the call that undoes it. Waits up to wait_s for the replicas to be ready.
    """
    clusters = ctx.state
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    obj = await get_object(api, "deployments", namespace, name)
    require_version(obj, expected_version, f"deployment {namespace}/{name}")
    before = rollout_of(obj).desired
    after = target_replicas(before, replicas, delta, clusters.settings.replicas_max)
    found: dict[str, Any] = {
        "cluster": api.name,
        "namespace": namespace,
        "name": name,
        "before": before,
        "after": after,
    }
    if after == before:
        rollout = rollout_of(obj)
        version = str(meta(obj).get("resourceVersion"))
        return ScaleOutcome(
            outcome="unchanged",
            replicas=replicas_of(rollout),
            state=rollout.state,
            version=version,
            as_of=now(),
            **found,
        )
    plan = await plan_scaling(api, obj, after, reason, cluster)
    change = {"spec": {"replicas": after}}
    doing = f"scale deployment {namespace}/{name}"
    # The server's own dry run first: quota, admission and the caller's rights are known before anybody is asked.
    await api.patch(path_of("deployments", namespace, name, "scale"), change, doing, dry_run=True)
    if dry_run:
        return ScaleOutcome(outcome="planned", plan=plan, as_of=now(), **found)
    await ctx.confirm(plan, version=version_of(obj), confirm=confirm)
    strict = expected_version is not None
    scale = await patch_unless_changed(api, obj, (name, "scale"), change, doing, strict=strict)
    facts = {
        "cluster": api.name,
        "namespace": namespace,
        "name": name,
        "before": before,
        "after": after,
        "reason": reason,
    }
    await ctx.emit("deployment_scaled", facts, subject=f"{namespace}/{name}")
    seen, rollout_now, warnings = await watch_rollout(ctx, api, namespace, name, wait_s)
    return ScaleOutcome(
        outcome="done",
        undo=plan.undo,
        replicas=replicas_of(rollout_now),
        state=rollout_now.state if rollout_now else None,
        verified=rollout_now is not None
        and rollout_now.desired == after
        and rollout_now.state in ("complete", "scaled_to_zero"),
        version=str(meta(seen or scale).get("resourceVersion", "")),
        warnings=[*plan.warnings, *warnings],
        as_of=now(),
        **found,
    )


def target_replicas(before: int, replicas: int | None, delta: int | None, most: int) -> int:
    """How many replicas are meant.

    Raises:
        ToolError: ``invalid_arguments`` for both or neither way to say it, or a number outside the bounds.
    """
    if (replicas is None) == (delta is None):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "exactly one of replicas and delta must be given",
            hint="replicas=5 sets, delta=2 adds two, delta=-1 takes one away.",
        )
    target = replicas if replicas is not None else before + (delta or 0)
    if not 0 <= target <= most:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{target} replicas are outside 0 to {most}",
            hint=f"It has {before} now; the worker's setting replicas_max bounds what may be asked for.",
        )
    return target


async def plan_scaling(api: ClusterApi, obj: Obj, after: int, reason: str, cluster: str | None) -> Plan:
    """What would be done, and what stands against it.

    Nothing in it varies by the second: who confirms it must still find the same plan when the answer comes.
    """
    namespace, name, before = str(meta(obj).get("namespace")), str(meta(obj).get("name")), rollout_of(obj).desired
    undo: dict[str, Any] = {"namespace": namespace, "name": name, "replicas": before, "reason": f"undo: {reason}"[:500]}
    if cluster:
        undo["cluster"] = cluster
    more, owner = after - before, owner_of(obj)
    pods = f"{abs(more)} pod{'s' if abs(more) != 1 else ''} {'start' if more > 0 else 'stop'}"
    return Plan(
        summary=f"Scale {namespace}/{name} in cluster {api.name} from {before} to {after} replicas ({reason})",
        changes=[Change(path="spec.replicas", before=before, after=after)],
        blast_radius=pods + (f"; owner {owner}" if owner else ""),
        undo=Undo(tool="k8s_scale_deployment", arguments=undo),
        warnings=await obstacles(api, obj, before, after),
    )


async def obstacles(api: ClusterApi, obj: Obj, before: int, after: int) -> list[str]:
    """What speaks against so many replicas, or will undo them."""
    namespace, name = str(meta(obj).get("namespace")), str(meta(obj).get("name"))
    steering, warnings = await autoscalers(api, namespace)
    hpa = steering.get((namespace, "Deployment", name))
    if hpa:
        outside = "" if hpa.min_replicas <= after <= hpa.max_replicas else f", and {after} is outside its range"
        warnings.append(
            f"the autoscaler {hpa.name} ({hpa.min_replicas} to {hpa.max_replicas} replicas) steers it and will "
            f"overrule this{outside}"
        )
    budgets, unread = await budgets_of(api, obj)
    warnings += unread
    broken = [budget for budget in budgets if pods_needed(budget, after) > after]
    tight = [budget for budget in budgets if pods_needed(budget, after) == after > 0]
    if broken:
        warnings.append(f"{after} replicas are fewer than the disruption budget {names(broken)} wants available")
    elif tight:
        warnings.append(f"the disruption budget {names(tight)} leaves no replica to spare: nodes could not be drained")
    warnings += ownership_warnings(obj)
    if after == 0:
        warnings.append("zero replicas take the service down")
    if abs(after - before) > JUMP_REPLICAS and max(after, before) > JUMP_FACTOR * min(after, before):
        warnings.append(f"a jump from {before} to {after} replicas at once")
    state = rollout_of(obj).state
    if state not in ("complete", "scaled_to_zero"):
        warnings.append(f"its rollout is {state}: k8s_get_pods says why")
    return warnings
