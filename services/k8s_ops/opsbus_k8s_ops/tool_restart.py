"""k8s_restart_deployment."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from opsbus import Change, Context, ErrorCode, Plan, ToolError
from opsbus_k8s_ops.api import Obj, path_of
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
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import get_object
from opsbus_k8s_ops.models import optional
from opsbus_k8s_ops.objects import annotations, meta, owner_of
from opsbus_k8s_ops.rollout import Rollout, rollout_of
from opsbus_k8s_ops.writes import (
    WriteOutcome,
    downtime_warnings,
    now,
    ownership_warnings,
    patch_unless_changed,
    replicas_of,
    require_version,
    version_of,
    watch_rollout,
)

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation kubectl rollout restart sets; the template changes, so the controller replaces every pod."""

UNDO_NOTE = (
    "A restart cannot be taken back: the pods are new. The template is the same, so there is nothing to roll back to."
)


class RestartOutcome(WriteOutcome):
    """What the restart did, or would do."""

    restarted_at: datetime | None = optional()
    undo_note: str | None = optional("Why there is no call that takes it back.")

    def to_text(self) -> str:
        """A few lines."""
        where = f"{self.namespace}/{self.name} in {self.cluster}"
        told = "Dry run, nothing was changed." if self.outcome == "planned" else f"Restarting {where}."
        return self.told(told)


async def restart_deployment(
    ctx: Context[Clusters],
    namespace: Namespace,
    name: Annotated[Name, Field(description="The deployment.")],
    reason: Reason,
    force: Annotated[bool, Field(description="Although a rollout runs or replicas are missing.")] = False,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: ExpectedVersion = None,
    wait_s: WaitSeconds = 20,
    cluster: Cluster = None,
) -> RestartOutcome:
    """Replace all pods of a deployment, a few at a time (kubectl rollout restart), after a person confirmed the plan.

    Refused while a rollout runs or replicas are missing, unless force is set: it would add to the trouble and hide
    its cause.
    """
    clusters = ctx.state
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    obj = await get_object(api, "deployments", namespace, name)
    require_version(obj, expected_version, f"deployment {namespace}/{name}")
    rollout = rollout_of(obj)
    require_calm(rollout, f"deployment {namespace}/{name}", force)
    plan = plan_restart(api.name, obj, rollout, reason)
    doing = f"restart deployment {namespace}/{name}"
    restarted_at = datetime.now(UTC).replace(microsecond=0)
    change = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: restarted_at.isoformat()}}}}}
    await api.patch(path_of("deployments", namespace, name), change, doing, dry_run=True)
    found: dict[str, Any] = {"cluster": api.name, "namespace": namespace, "name": name, "undo_note": UNDO_NOTE}
    if dry_run:
        return RestartOutcome(outcome="planned", plan=plan, as_of=now(), **found)
    await ctx.confirm(plan, version=version_of(obj), confirm=confirm)
    strict = expected_version is not None
    written = await patch_unless_changed(api, obj, (name,), change, doing, strict=strict)
    facts = {"cluster": api.name, "namespace": namespace, "name": name, "reason": reason, "forced": force}
    await ctx.emit("deployment_restarted", facts, subject=f"{namespace}/{name}")
    seen, rollout_now, warnings = await watch_rollout(ctx, api, namespace, name, wait_s)
    return RestartOutcome(
        outcome="done",
        restarted_at=restarted_at,
        replicas=replicas_of(rollout_now),
        state=rollout_now.state if rollout_now else None,
        verified=rollout_now is not None and rollout_now.state == "complete",
        version=str(meta(seen or written).get("resourceVersion", "")),
        warnings=[*plan.warnings, *warnings],
        as_of=now(),
        **found,
    )


def require_calm(rollout: Rollout, what: str, force: bool) -> None:
    """
    Raises:
        ToolError: ``precondition_failed`` when a restart would add to trouble; a paused rollout cannot be forced.
    """
    if rollout.state == "paused":
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} is paused: a restart would not begin before it is resumed",
            hint="Resume the rollout first.",
            details={"state": rollout.state},
        )
    if rollout.state not in ("complete", "scaled_to_zero") and not force:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} is {rollout.state}: {rollout.reason}",
            hint="Look into the cause first (k8s_get_pods, k8s_get_pod_logs), or restart all the same with force=true.",
            details={"state": rollout.state, "desired": rollout.desired, "ready": rollout.ready},
        )


def plan_restart(cluster: str, obj: Obj, rollout: Rollout, reason: str) -> Plan:
    """What would be done, and what stands against it."""
    namespace, name = str(meta(obj).get("namespace")), str(meta(obj).get("name"))
    spec = obj.get("spec") or {}
    warnings = [*ownership_warnings(obj), *downtime_warnings(obj, rollout.desired)]
    if rollout.desired == 0:
        warnings.append("it has no replicas: nothing restarts now")
    if rollout.state not in ("complete", "scaled_to_zero"):
        warnings.append(f"forced although its rollout is {rollout.state}")
    owner = owner_of(obj)
    last = annotations(spec.get("template") or {}).get(RESTARTED_AT)
    return Plan(
        summary=f"Restart deployment {namespace}/{name} in cluster {cluster} ({reason})",
        changes=[
            Change(
                path=f"spec.template.metadata.annotations[{RESTARTED_AT}]", before=last, after="the time of the restart"
            )
        ],
        blast_radius=f"all {rollout.desired} pods are replaced" + (f"; owner {owner}" if owner else ""),
        warnings=warnings,
    )
