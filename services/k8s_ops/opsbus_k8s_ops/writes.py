"""What every write here shares: its outcome, the check of the version, watching the rollout that follows."""

import asyncio
import json
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Plan, ToolError, Undo
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.models import optional
from opsbus_k8s_ops.objects import gitops_of, meta
from opsbus_k8s_ops.rollout import Rollout, rollout_of

POLL_EVERY_S = 1.0
"""Between two looks at a rollout. Seconds."""

CONFLICTS_MAX = 3
"""Tries of a write that meets only changes of the status."""


STATE_TAINTS = "node.kubernetes.io/"
"""How taints begin that are not set by people: not ready, short of memory, cordoned."""


class Replicas(BaseModel):
    """A workload's replicas at the end of the call."""

    desired: int
    ready: int
    updated: int
    available: int


class WriteOutcome(BaseModel):
    """What a write did, or would do."""

    outcome: Literal["planned", "unchanged", "done"] = Field(description="planned: a dry run, nothing was changed.")
    cluster: str
    namespace: str
    name: str
    plan: Plan | None = optional("What would be done.")
    replicas: Replicas | None = optional("As last seen.")
    state: str | None = optional("How the rollout stands: complete, progressing, stuck, ...")
    verified: bool | None = optional("The cluster was seen to have carried it out.")
    undo: Undo | None = optional("The call that takes it back.")
    version: str | None = optional("resourceVersion after the write.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime

    def told(self, sentence: str) -> str:
        """The text form: a sentence, how it stands, what to know."""
        lines = [sentence]
        if self.replicas and self.state:
            lines.append(f"Now {self.replicas.ready} of {self.replicas.desired} replicas are ready ({self.state}).")
        if self.outcome == "planned" and self.plan:
            return "\n".join([*lines, self.plan.to_text()])
        if self.undo:
            lines.append(f"Undo: {self.undo.tool} {self.undo.arguments}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def version_of(obj: Obj) -> str:
    """The version a confirmation is bound to: the object's identity and its spec, not its ever-changing status.

    A node counts no generations, so its spec itself stands in for one, without the taints by which the cluster itself
    tells of its state.
    """
    if meta(obj).get("generation") is not None:
        return f"{meta(obj).get('uid')}/{meta(obj).get('generation')}"
    spec = dict(obj.get("spec") or {})
    spec["taints"] = [taint for taint in spec.get("taints") or [] if not str(taint.get("key")).startswith(STATE_TAINTS)]
    digest = sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    return f"{meta(obj).get('uid')}/{digest[:16]}"


def require_version(obj: Obj, expected: str | None, what: str) -> None:
    """
    Raises:
        ToolError: ``precondition_failed`` when the object is not the version the caller has seen.
    """
    actual = str(meta(obj).get("resourceVersion", ""))
    if expected is not None and expected != actual:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} is at version {actual}, not {expected}: it has changed since it was read",
            hint="Read it again and decide anew.",
            details={"expected_version": expected, "version": actual},
        )


def downtime_warnings(obj: Obj, desired: int) -> list[str]:
    """Whether the service is down while its pods are replaced."""
    spec = obj.get("spec") or {}
    if desired == 0:
        return []
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        return [
            "its strategy is Recreate: all pods stop before the first new one starts, the service is down meanwhile"
        ]
    surge = ((spec.get("strategy") or {}).get("rollingUpdate") or {}).get("maxSurge", "25%")
    if desired == 1 and str(surge) in ("0", "0%"):
        return ["one replica and no surge: the service is down until the new pod is ready"]
    return []


def ownership_warnings(obj: Obj) -> list[str]:
    """Who will not like the change."""
    owner = gitops_of(obj)
    return [f"{owner} owns its desired state and may put it back: change the repository too"] if owner else []


async def patch_unless_changed(
    api: ClusterApi,
    seen: Obj,
    target: tuple[str, ...],
    change: Obj,
    doing: str,
    *,
    strict: bool,
    resource: str = "deployments",
) -> Obj:
    """A merge patch that applies only to the object as it was seen.

    Changes of the status alone do not count, unless ``strict``.

    Args:
        api: The cluster.
        seen: The object as it was when the change was decided.
        target: Path after the object's collection: its name, and a subresource.
        change: The patch without the version.
        doing: For errors.
        strict: Any change counts: the caller named a version.
        resource: What the object is one of.

    Raises:
        ToolError: ``conflict`` when somebody else changed the spec in the meantime; the cluster's refusal.
    """
    namespace, name = meta(seen).get("namespace"), str(meta(seen).get("name"))
    what = f"{resource.removesuffix('s')} {f'{namespace}/' if namespace else ''}{name}"
    current = seen
    for _ in range(CONFLICTS_MAX):
        version = {**(change.get("metadata") or {}), "resourceVersion": meta(current).get("resourceVersion")}
        try:
            return await api.patch(
                path_of(resource, namespace, *target), {**change, "metadata": version}, doing, dry_run=False
            )
        except ToolError as error:
            if error.code is not ErrorCode.CONFLICT or strict:
                raise
        current = await api.get(path_of(resource, namespace, name), f"read {what}")
        if version_of(current) != version_of(seen):
            break
    raise ToolError(
        ErrorCode.CONFLICT,
        f"{what} was changed by somebody else in the meantime; nothing was done",
        hint="Read it again and decide anew.",
    )


async def watch_rollout(
    ctx: Context[Any], api: ClusterApi, namespace: str, name: str, wait_s: float
) -> tuple[Obj | None, Rollout | None, list[str]]:
    """The deployment once its rollout is complete, or as it stands when the wait is over; progress is told meanwhile.

    What was written stands even when the watching fails: that is a warning, not an error.
    """
    ends = time.monotonic() + min(wait_s, ctx.remaining_s - 2)
    obj, rollout = None, None
    while True:
        try:
            obj = await api.get(path_of("deployments", namespace, name), f"read deployment {namespace}/{name}")
        except ToolError as error:
            return obj, rollout, [f"it was carried out, but watching it failed: {error.message}"]
        rollout = rollout_of(obj)
        if rollout.state not in ("progressing",) or time.monotonic() + POLL_EVERY_S > ends:
            break
        await ctx.progress(rollout.ready, rollout.desired, f"{rollout.ready} of {rollout.desired} replicas are ready")
        await asyncio.sleep(POLL_EVERY_S)
    done = rollout.state in ("complete", "scaled_to_zero")
    counts = f"{rollout.ready} of {rollout.desired} replicas are ready"
    return obj, rollout, [] if done else [f"not complete yet, {counts}: {rollout.reason or rollout.state}"]


async def seen_after(api: ClusterApi, path: str, what: str) -> tuple[Obj | None, list[str]]:
    """The object as it is after a write. What was written stands even when the look fails: that is a warning."""
    try:
        return await api.get(path, f"read {what}"), []
    except ToolError as error:
        return None, [f"it was carried out, but looking at it failed: {error.message}"]


def replicas_of(rollout: Rollout | None) -> Replicas | None:
    """The counts for an outcome."""
    if rollout is None:
        return None
    return Replicas(desired=rollout.desired, ready=rollout.ready, updated=rollout.updated, available=rollout.available)


def now() -> datetime:
    """The time of an outcome."""
    return datetime.now(UTC)
