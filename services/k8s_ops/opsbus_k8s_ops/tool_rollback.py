"""k8s_rollback_deployment."""

from typing import Annotated, Any

from pydantic import Field

from opsbus import Change, Context, ErrorCode, Plan, ToolError, Undo
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
from opsbus_k8s_ops.objects import annotations, images_of, meta, owner_of
from opsbus_k8s_ops.restoring import current_of, restoring_patch, same_template, target_of
from opsbus_k8s_ops.revisions import REVISION, Revision, revisions_of, template_changes
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

CHANGES_MAX = 60
"""Differences of the template in a plan."""


class RollbackOutcome(WriteOutcome):
    """What the rollback did, or would do."""

    from_revision: int | None = optional("The one that was rolled out before.")
    to_revision: int | None = optional("The one whose template is taken up again.")
    new_revision: int | None = optional("The number it has now: a rollback is a rollout too.")
    images_before: list[str] | None = optional()
    images_after: list[str] | None = optional()

    def to_text(self) -> str:
        """A few lines."""
        where = f"{self.namespace}/{self.name} in {self.cluster}"
        sentences = {
            "planned": f"Dry run, nothing was changed: {where} to revision {self.to_revision}.",
            "unchanged": f"{where} has the template of revision {self.to_revision} already; nothing was done.",
            "done": f"Rolled {where} back from revision {self.from_revision} to the template of {self.to_revision}.",
        }
        return self.told(sentences[self.outcome])


async def rollback_deployment(
    ctx: Context[Clusters],
    namespace: Namespace,
    name: Annotated[Name, Field(description="The deployment.")],
    reason: Reason,
    to_revision: Annotated[
        int | None,
        Field(ge=1, le=2_000_000_000, description="As k8s_rollout_history numbers them. Default: the one before."),
    ] = None,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: ExpectedVersion = None,
    wait_s: WaitSeconds = 30,
    cluster: Cluster = None,
) -> RollbackOutcome:
    """Give a deployment the pod template of an earlier revision again, after a person confirmed the plan.

    The plan shows what differs: images, limits, environment, secrets masked. Refused while the rollout is paused, or
    where there is no earlier revision. What was rolled out when is in k8s_rollout_history; replicas stay as they are.
    Example: namespace="shop", name="checkout", reason="OOM since v2.4.1".
    """
    clusters = ctx.state
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    obj = await get_object(api, "deployments", namespace, name)
    what = f"deployment {namespace}/{name}"
    require_version(obj, expected_version, what)
    rollout = rollout_of(obj)
    require_settled(obj, rollout, what)
    revisions = await revisions_of(api, obj, clusters.bounds)
    target, current = target_of(obj, revisions, to_revision, what), current_of(obj, revisions)
    found: dict[str, Any] = {
        "cluster": api.name,
        "namespace": namespace,
        "name": name,
        "from_revision": current.number if current else None,
        "to_revision": target.number,
        "images_before": images_of(template_of(obj).get("spec") or {}),
        "images_after": target.images,
    }
    if same_template(template_of(obj), target.template):
        return RollbackOutcome(
            outcome="unchanged",
            replicas=replicas_of(rollout),
            state=rollout.state,
            version=str(meta(obj).get("resourceVersion")),
            as_of=now(),
            **found,
        )
    plan = plan_rollback(api.name, obj, target, current, reason, cluster)
    change = restoring_patch(obj, target)
    doing = f"roll back {what}"
    await api.patch(path_of("deployments", namespace, name), change, doing, dry_run=True)
    if dry_run:
        return RollbackOutcome(outcome="planned", plan=plan, as_of=now(), **found)
    await ctx.confirm(plan, version=version_of(obj), confirm=confirm)
    written = await patch_unless_changed(api, obj, (name,), change, doing, strict=expected_version is not None)
    facts = {"cluster": api.name, "namespace": namespace, "name": name, "reason": reason}
    facts |= {key: found[key] for key in ("from_revision", "to_revision", "images_before", "images_after")}
    await ctx.emit("deployment_rolled_back", facts, subject=f"{namespace}/{name}")
    seen, rollout_now, warnings = await watch_rollout(ctx, api, namespace, name, wait_s)
    taken = seen is not None and same_template(template_of(seen), target.template)
    if seen is not None and not taken:
        warnings.append("somebody changed its template since: what runs is not the revision that was asked for")
    number = annotations(seen).get(REVISION, "") if seen is not None and taken else ""
    return RollbackOutcome(
        outcome="done",
        undo=plan.undo,
        new_revision=int(number) if number.isdigit() and int(number) != found["from_revision"] else None,
        replicas=replicas_of(rollout_now),
        state=rollout_now.state if rollout_now else None,
        verified=taken and rollout_now is not None and rollout_now.state in ("complete", "scaled_to_zero"),
        version=str(meta(seen or written).get("resourceVersion", "")),
        warnings=[*plan.warnings, *warnings],
        as_of=now(),
        **found,
    )


def template_of(obj: Obj) -> Obj:
    """The pod template of a deployment."""
    return (obj.get("spec") or {}).get("template") or {}


def require_settled(obj: Obj, rollout: Rollout, what: str) -> None:
    """
    Raises:
        ToolError: ``precondition_failed`` when a rollback would not begin, or nobody knows yet what is rolled out.
    """
    if (obj.get("spec") or {}).get("paused"):
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} is paused: a rollback would not begin before it is resumed",
            hint="Resume the rollout first.",
            details={"state": rollout.state},
        )
    seen, last = (obj.get("status") or {}).get("observedGeneration") or 0, meta(obj).get("generation") or 0
    if int(seen) < int(last):
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} was changed just now and its controller has not seen it: which revision is current is not known",
            hint="Repeat the call in a few seconds; if it stays so, no controller of deployments runs in the cluster.",
            details={"state": rollout.state, "generation": last, "observed_generation": seen},
            retryable=True,
        )


def plan_rollback(
    cluster_name: str, obj: Obj, target: Revision, current: Revision | None, reason: str, cluster: str | None
) -> Plan:
    """What would be done, and what stands against it.

    Nothing in it varies by the second: who confirms it must still find the same plan when the answer comes.
    """
    namespace, name = str(meta(obj).get("namespace")), str(meta(obj).get("name"))
    desired, owner = rollout_of(obj).desired, owner_of(obj)
    differs = template_changes(template_of(obj), target.template)
    differs.sort(key=lambda change: (not change.path.endswith(".image"), change.path))
    changes = [
        Change(path=f"spec.template.{change.path}", before=change.before, after=change.after) for change in differs
    ]
    warnings = [*ownership_warnings(obj), *downtime_warnings(obj, desired)]
    if len(changes) > CHANGES_MAX:
        warnings.append(f"{len(changes) - CHANGES_MAX} more differences are not shown: k8s_rollout_history has them")
    if refers_to_settings(target.template):
        warnings.append("ConfigMaps and Secrets it refers to are not rolled back: it meets them as they are now")
    state = rollout_of(obj).state
    if state == "progressing":
        warnings.append("a rollout is under way: it is given up for this one")
    if desired == 0:
        warnings.append("it has no replicas: nothing is replaced now")
    undo = None
    if current is not None and same_template(current.template, template_of(obj)):
        arguments: dict[str, Any] = {
            "namespace": namespace,
            "name": name,
            "to_revision": current.number,
            "reason": f"undo: {reason}"[:500],
        }
        undo = Undo(tool="k8s_rollback_deployment", arguments=arguments | ({"cluster": cluster} if cluster else {}))
    else:
        warnings.append("the cluster keeps no revision of what runs now: there is no call that takes this back")
    came_from = f"revision {current.number}" if current else "what runs now"
    return Plan(
        summary=f"Roll {namespace}/{name} in cluster {cluster_name} back from {came_from} to revision "
        f"{target.number} ({reason})",
        changes=changes[:CHANGES_MAX],
        blast_radius=f"all {desired} pods are replaced" + (f"; owner {owner}" if owner else ""),
        undo=undo,
        warnings=warnings,
    )


def refers_to_settings(template: Obj) -> bool:
    """Whether its containers or volumes take anything from a ConfigMap or a Secret."""
    spec = template.get("spec") or {}
    if any(key in volume for volume in spec.get("volumes") or [] for key in ("configMap", "secret", "projected")):
        return True
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container.get("envFrom"):
            return True
        sources = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
        if any("secretKeyRef" in source or "configMapKeyRef" in source for source in sources):
            return True
    return False
