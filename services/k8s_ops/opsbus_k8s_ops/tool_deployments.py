"""k8s_get_deployments."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.arguments import Cluster, LabelSelector, Limit, Namespaces, PageCursor, WorkloadKind
from opsbus_k8s_ops.autoscaling import autoscalers
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import Listing
from opsbus_k8s_ops.models import Autoscaler, Counts, Group, WorkloadList, WorkloadRow
from opsbus_k8s_ops.objects import annotations, container_rows, images_of, labels, meta, owner_of, seconds_since
from opsbus_k8s_ops.paging import fit_page, query_digest
from opsbus_k8s_ops.rollout import ORDER, Rollout, rollout_of
from opsbus_k8s_ops.scope import list_in_scope

WorkloadField = Literal[
    "state", "reason", "desired", "ready", "updated", "available", "images", "owner", "hpa", "revision", "change_cause",
    "strategy", "age_s", "version", "labels", "containers",
]  # fmt: skip
DEFAULT_FIELDS: tuple[WorkloadField, ...] = (
    "state", "reason", "desired", "ready", "updated", "available", "images", "owner", "hpa", "revision", "change_cause",
    "age_s", "version",
)  # fmt: skip

PLURALS: dict[WorkloadKind, str] = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
}

Judged = tuple[Rollout, WorkloadRow, Obj]
Steering = dict[tuple[str, str, str], Autoscaler]


async def get_deployments(
    ctx: Context[Clusters],
    namespaces: Namespaces = None,
    name: Annotated[str | None, Field(max_length=253, description="Only workloads of exactly this name.")] = None,
    kinds: Annotated[list[WorkloadKind] | None, Field(description="Default: deployments alone.")] = None,
    label_selector: LabelSelector = None,
    problem_only: Annotated[bool, Field(description="Only workloads that are not healthy.")] = False,
    group_by: Annotated[
        Literal["namespace", "state", "owner", "kind"] | None, Field(description="Counts per group in place of rows.")
    ] = None,
    fields: Annotated[
        list[WorkloadField] | None,
        Field(description="What each row has. containers adds resources and environment, secrets masked."),
    ] = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> WorkloadList:
    """Deployments (and stateful and daemon sets): desired, ready, updated and available replicas, state of the rollout.

    States: failing (replicas cannot be created), stuck (rollout past its deadline), degraded (rolled out, but not
    all available), progressing, paused, complete, scaled_to_zero. hpa shows the autoscaler that steers it; version
    goes into expected_version.
    """
    clusters, now = ctx.state, datetime.now(UTC)
    api = clusters.api(ctx, cluster)
    wanted = frozenset(fields or DEFAULT_FIELDS)
    whole = await _read(clusters, api, kinds or ["Deployment"], namespaces, name, label_selector)
    steering: Steering = {}
    if "hpa" in wanted and whole.items:
        scope: list[str | None] = [*namespaces] if namespaces else [None]
        for namespace in scope:
            found, warnings = await autoscalers(api, namespace)
            steering |= found
            whole.warnings += warnings
    judged = [_judge(obj, steering, now, wanted) for obj in whole.items]
    counts = Counts(
        total=len(judged),
        unhealthy=sum(1 for rollout, _, _ in judged if not rollout.healthy),
        states=dict(Counter(rollout.state for rollout, _, _ in judged).most_common()),
    )
    chosen = [item for item in judged if not (problem_only and item[0].healthy)]
    groups = _group(chosen, group_by) if group_by else []
    rows = (
        []
        if group_by
        else [((_severity(rollout), row.namespace, f"{row.name}/{row.kind}"), row) for rollout, row, _ in chosen]
    )
    return fit_page(
        WorkloadList,
        rows,
        limit=limit,
        total=len(chosen),
        cursor=cursor,
        digest=query_digest(c=api.name, n=namespaces, k=kinds, name=name, l=label_selector, p=problem_only),
        extra={"cluster": api.name, "counts": counts, "groups": groups},
        warnings=whole.warnings,
        source=f"kubernetes:{api.name}/deployments",
        as_of=now,
    )


async def _read(
    clusters: Clusters,
    api: ClusterApi,
    kinds: Sequence[WorkloadKind],
    namespaces: Sequence[str] | None,
    name: str | None,
    label_selector: str | None,
) -> Listing[Obj]:
    """The workloads of all kinds asked for.

    Raises:
        ToolError: ``not_found`` with near names when none has the name.
    """
    whole: Listing[Obj] = Listing()
    for kind in dict.fromkeys(kinds):
        # Objects of a list do not say their kind.
        part = await list_in_scope(
            clusters,
            api,
            PLURALS[kind],
            namespaces,
            partial(_of_kind, kind),
            labels=label_selector,
            fields=f"metadata.name={name}" if name else None,
        )
        whole.items += part.items
        whole.warnings += part.warnings
    if name and not whole.items:
        parts = [await list_in_scope(clusters, api, PLURALS[kind], namespaces, _name_of) for kind in kinds]
        known = [found for part in parts for found in part.items]
        where = f"namespace {', '.join(namespaces)}" if namespaces else "any namespace"
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name}: no {' or '.join(kinds)} in {where} is called {name!r}",
            hint="Leave name out to see what there is; kinds=['StatefulSet'] looks at stateful sets.",
            did_you_mean=near(name, dict.fromkeys(known)),
        )
    return whole


def _name_of(obj: Obj) -> str:
    return str(meta(obj).get("name", ""))


def _of_kind(kind: str, obj: Obj) -> Obj:
    return {**obj, "kind": kind}


def _judge(obj: Obj, steering: Steering, now: datetime, wanted: frozenset[str]) -> Judged:
    rollout = rollout_of(obj)
    return rollout, workload_row(obj, rollout, steering, now, wanted), obj


def workload_row(obj: Obj, rollout: Rollout, steering: Steering, now: datetime, wanted: frozenset[str]) -> WorkloadRow:
    """A row with the wanted fields."""
    spec = obj.get("spec") or {}
    template = (spec.get("template") or {}).get("spec") or {}
    name, namespace, kind = (
        str(meta(obj).get("name", "")),
        str(meta(obj).get("namespace", "")),
        str(obj.get("kind", "")),
    )
    every = {
        "state": rollout.state,
        "reason": rollout.reason,
        "desired": rollout.desired,
        "ready": rollout.ready,
        "updated": rollout.updated,
        "available": rollout.available,
        "images": images_of(template),
        "owner": owner_of(obj),
        "hpa": steering.get((namespace, kind, name)),
        "revision": annotations(obj).get("deployment.kubernetes.io/revision"),
        "change_cause": annotations(obj).get("kubernetes.io/change-cause"),
        "strategy": (spec.get("strategy") or spec.get("updateStrategy") or {}).get("type"),
        "age_s": seconds_since(meta(obj).get("creationTimestamp"), now),
        "version": meta(obj).get("resourceVersion"),
        "labels": labels(obj),
        "containers": container_rows(template) if "containers" in wanted else None,
    }
    shown = {key: value for key, value in every.items() if key in wanted}
    return WorkloadRow(namespace=namespace, name=name, kind=kind, healthy=rollout.healthy, **shown)


def _group(items: list[Judged], by: str) -> list[Group]:
    members: dict[str, list[Rollout]] = {}
    for rollout, row, obj in items:
        keys = {
            "namespace": row.namespace,
            "state": rollout.state,
            "owner": owner_of(obj) or "(unknown)",
            "kind": row.kind,
        }
        members.setdefault(keys[by], []).append(rollout)
    result = [
        Group(
            key=key,
            total=len(rollouts),
            unhealthy=sum(1 for rollout in rollouts if not rollout.healthy),
            states=dict(Counter(rollout.state for rollout in rollouts).most_common()),
        )
        for key, rollouts in members.items()
    ]
    return sorted(result, key=lambda entry: (-entry.unhealthy, -entry.total, entry.key))[:100]


def _severity(rollout: Rollout) -> int:
    return ORDER.index(rollout.state)
