"""k8s_can_i."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import ClusterApi, Impersonation, Obj
from opsbus_k8s_ops.arguments import Cluster, Namespace
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.discovery import ResourceKind
from opsbus_k8s_ops.locating import outside_namespaces
from opsbus_k8s_ops.models import optional

SELF_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
REVIEW = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
AUTHENTICATED = "system:authenticated"
"""The group that the API server adds to whoever it impersonates."""

SPECIAL_VERBS = frozenset({"*", "use", "bind", "escalate", "impersonate", "approve", "sign", "attest"})
"""Verbs that are no requests and so in no discovery."""


class AccessAnswer(BaseModel):
    """Whether, and as whom."""

    cluster: str
    allowed: bool
    by: Literal["cluster", "settings"] = Field(
        description="Who decides: the cluster's RBAC, or this worker, to which the namespace is closed."
    )
    verb: str
    resource: str = Field(description="deployments/scale")
    group: str | None = optional("apps; missing: the core group.")
    namespace: str | None = optional("Missing: all namespaces, or a kind outside them.")
    name: str | None = optional("Missing: any.")
    user: str | None = optional("Whom the cluster sees; missing: the worker's own account.")
    groups: list[str] | None = optional()
    reason: str | None = optional("In the cluster's words.")
    hint: str | None = optional("What to do about a no.")
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """One line."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        what = f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "") + where
        who = self.user or "the worker's own account"
        said = f" ({self.reason})" if self.reason else ""
        return f"{'Yes' if self.allowed else 'No'}: {who} {'may' if self.allowed else 'may not'} {what}{said}" + (
            f"\n{self.hint}" if self.hint else ""
        )


async def can_i(
    ctx: Context[Clusters],
    verb: Annotated[
        str,
        Field(
            min_length=1,
            max_length=40,
            pattern=r"^(\*|[a-z]+)$",
            description="get, list, watch, create, update, patch, delete, or * for all.",
        ),
    ],
    kind: Annotated[
        str,
        Field(
            min_length=1,
            max_length=300,
            pattern=r"^(\*|[A-Za-z][A-Za-z0-9.\-]*(/[a-z]+)?)$",
            description="Any kind, also with a subresource: deployments, pods/log, deployments/scale.",
        ),
    ],
    namespace: Annotated[Namespace | None, Field(description="Default: all namespaces at once.")] = None,
    name: Annotated[
        str | None, Field(max_length=253, pattern=r"^[^\s/%?#]+$", description="Only this object. Default: any.")
    ] = None,
    cluster: Cluster = None,
) -> AccessAnswer:
    """Whether the cluster's RBAC lets you do something, before trying it: an access review as you, the caller.

    The platform's own permissions (k8s:scale, k8s:restart, ...) decide as well; they show in which tools you have.
    Example: verb="patch", kind="deployments/scale", namespace="shop".
    """
    clusters = ctx.state
    api = clusters.api(ctx, cluster)
    who = clusters.impersonation(ctx.identity)
    attributes, resource = await _attributes(clusters, api, verb, kind, namespace, name)
    answer = AccessAnswer(
        cluster=api.name,
        allowed=False,
        by="settings",
        verb=verb,
        resource=resource,
        group=attributes.get("group") or None,
        namespace=namespace,
        name=name,
        user=who.user if who else None,
        groups=list(who.groups) if who else None,
        as_of=datetime.now(UTC),
        source=f"kubernetes:{api.name}/accessreviews",
    )
    if namespace is not None and not clusters.allowed(namespace):
        answer.reason = f"namespace {namespace!r} is closed to these tools"
        answer.hint = f"This worker serves: {', '.join(clusters.settings.namespaces)}."
        return answer
    status = await _review(clusters, api, who, attributes)
    answer.by, answer.allowed = "cluster", bool(status.get("allowed")) and not status.get("denied")
    answer.reason = str(status.get("reason") or status.get("evaluationError") or "")[:500] or None
    if not answer.allowed:
        subject = who.describe() if who else "the worker's own account"
        answer.hint = f"A role with {verb} on {resource} would have to be bound to {subject}."
    return answer


async def _attributes(
    clusters: Clusters, api: ClusterApi, verb: str, kind: str, namespace: str | None, name: str | None
) -> tuple[Obj, str]:
    """The question in the API's words, and the resource for the answer.

    Raises:
        ToolError: ``not_found`` with near names for a kind or subresource, ``invalid_arguments`` for a verb that
            nobody has.
    """
    asked: Obj = {"verb": verb, **({"namespace": namespace} if namespace else {}), **({"name": name} if name else {})}
    if kind == "*":
        return {**asked, "group": "*", "resource": "*"}, "*"
    plain, _, subresource = kind.partition("/")
    found, _ = await clusters.discovery.find(api, plain)
    if namespace is not None and not found.namespaced:
        raise outside_namespaces(found)
    verbs = found.verbs_of(subresource or None)
    if verbs is None:
        known = [below for below, _ in found.subresources]
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"{found.qualified} has no subresource {subresource!r}",
            hint=f"It has: {', '.join(known) or 'none'}.",
            did_you_mean=[f"{found.plural}/{below}" for below in near(subresource, known)],
        )
    _require_verb(verb, verbs, found)
    resource = f"{found.plural}/{subresource}" if subresource else found.plural
    below_part = {"subresource": subresource} if subresource else {}
    return {**asked, "group": found.group, "resource": found.plural, **below_part}, resource


def _require_verb(verb: str, verbs: tuple[str, ...], kind: ResourceKind) -> None:
    if verb in verbs or verb in SPECIAL_VERBS:
        return
    raise ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        f"verb: nobody can {verb!r} {kind.plural}",
        hint=f"What can be done with them: {', '.join(verbs) or 'nothing'}.",
        did_you_mean=near(verb, verbs),
    )


async def _review(clusters: Clusters, api: ClusterApi, who: Impersonation | None, attributes: Obj) -> Obj:
    """The cluster's answer; where callers may not ask about themselves, the worker asks about them.

    Raises:
        ToolError: the cluster's.
    """
    body = {"apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": attributes}}
    doing = "ask what you may do"
    try:
        answer = await api.review(SELF_REVIEW, {**body, "kind": "SelfSubjectAccessReview"}, doing)
    except ToolError as error:
        if error.code is not ErrorCode.FORBIDDEN or who is None:
            raise
        spec = {"resourceAttributes": attributes, "user": who.user, "groups": [*who.groups, AUTHENTICATED]}
        asked = {**body, "kind": "SubjectAccessReview", "spec": spec}
        answer = await clusters.as_worker(api).review(REVIEW, asked, doing)
    status = answer.get("status")
    if not isinstance(status, dict) or not isinstance(status.get("allowed"), bool):
        raise ToolError(
            ErrorCode.BACKEND_ERROR,
            f"cluster {api.name}: the access review has no answer in it",
            hint="Something else than a Kubernetes API server may answer at this address.",
        )
    return status
