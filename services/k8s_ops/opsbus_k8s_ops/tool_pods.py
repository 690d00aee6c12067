"""k8s_get_pods."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from opsbus import Context
from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.arguments import Cluster, FieldSelector, LabelSelector, Limit, Namespaces, PageCursor
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.models import Counts, Group, PodList, PodRow
from opsbus_k8s_ops.objects import container_rows, images_of, labels, meta, owner_of, seconds_since, workload_of
from opsbus_k8s_ops.paging import Key, fit_page, query_digest
from opsbus_k8s_ops.podhealth import Health, pod_health, ready_counts, restarts
from opsbus_k8s_ops.scope import list_in_scope

PodField = Literal[
    "state", "cause", "reason", "ready", "restarts", "age_s", "node", "workload", "ip", "images", "labels", "containers"
]
DEFAULT_FIELDS: tuple[PodField, ...] = ("state", "cause", "reason", "ready", "restarts", "age_s", "node", "workload")

Judged = tuple[Health, PodRow, dict[str, str]]


async def get_pods(
    ctx: Context[Clusters],
    namespaces: Namespaces = None,
    label_selector: LabelSelector = None,
    field_selector: FieldSelector = None,
    problem_only: Annotated[bool, Field(description="Only pods that are not healthy.")] = False,
    group_by: Annotated[
        Literal["namespace", "workload", "node", "state", "owner"] | None,
        Field(description="Counts per group in place of rows."),
    ] = None,
    fields: Annotated[
        list[PodField] | None,
        Field(description="What each row has. Default: all but ip, images, labels, containers."),
    ] = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> PodList:
    """Pods with what is wrong with each, the unhealthy first, and counts of all that matched.

    The state is kubectl's (CrashLoopBackOff, ImagePullBackOff, Pending, NotReady ...); cause and reason say why:
    OOMKilled with its memory limit, the scheduler's words for a pending pod. Start with problem_only=true, or
    group_by=namespace for an overview.
    """
    clusters, now = ctx.state, datetime.now(UTC)
    api = clusters.api(ctx, cluster)
    wanted = frozenset(fields or DEFAULT_FIELDS)

    def judge(pod: Obj) -> Judged:
        health = pod_health(pod, now)
        groups = {
            "namespace": str(meta(pod).get("namespace", "")),
            "workload": f"{meta(pod).get('namespace', '')}/{workload_of(pod) or '(none)'}",
            "node": str((pod.get("spec") or {}).get("nodeName") or "(none)"),
            "state": health.state,
            "owner": owner_of(pod) or "(unknown)",
        }
        return health, pod_row(pod, health, now, wanted), groups

    listing = await list_in_scope(
        clusters, api, "pods", namespaces, judge, labels=label_selector, fields=field_selector
    )
    counts = Counts(
        total=len(listing.items),
        unhealthy=sum(1 for health, _, _ in listing.items if not health.healthy),
        states=dict(Counter(health.state for health, _, _ in listing.items).most_common()),
    )
    chosen = [item for item in listing.items if not (problem_only and item[0].healthy)]
    groups = group(chosen, group_by) if group_by else []
    rows: list[tuple[Key, PodRow]] = [] if group_by else [(_key(item), item[1]) for item in chosen]
    return fit_page(
        PodList,
        rows,
        limit=limit,
        total=len(chosen),
        cursor=cursor,
        digest=query_digest(c=api.name, n=namespaces, l=label_selector, f=field_selector, p=problem_only),
        extra={"cluster": api.name, "counts": counts, "groups": groups},
        warnings=listing.warnings,
        source=f"kubernetes:{api.name}/pods",
        as_of=now,
    )


def pod_row(pod: Obj, health: Health, now: datetime, wanted: frozenset[str]) -> PodRow:
    """A row with the wanted fields."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    ready, containers = ready_counts(pod)
    every = {
        "state": health.state,
        "cause": health.cause,
        "reason": health.reason,
        "ready": f"{ready}/{containers}",
        "restarts": restarts(pod),
        "age_s": seconds_since(meta(pod).get("creationTimestamp"), now),
        "node": spec.get("nodeName"),
        "workload": workload_of(pod),
        "ip": status.get("podIP"),
        "images": images_of(spec) if "images" in wanted else None,
        "labels": labels(pod),
        "containers": container_rows(spec) if "containers" in wanted else None,
    }
    name, namespace = str(meta(pod).get("name", "")), str(meta(pod).get("namespace", ""))
    shown = {key: value for key, value in every.items() if key in wanted}
    return PodRow(namespace=namespace, name=name, healthy=health.healthy, **shown)


def group(items: list[Judged], by: str, most: int = 100) -> list[Group]:
    """Counts per group, those with most trouble first."""
    members: dict[str, list[Health]] = {}
    for health, _, groups in items:
        members.setdefault(groups[by], []).append(health)
    result = [
        Group(
            key=key,
            total=len(healths),
            unhealthy=sum(1 for health in healths if not health.healthy),
            states=dict(Counter(health.state for health in healths).most_common()),
        )
        for key, healths in members.items()
    ]
    return sorted(result, key=lambda entry: (-entry.unhealthy, -entry.total, entry.key))[:most]


def _key(item: Judged) -> Key:
    health, row, _ = item
    return health.severity, row.namespace, row.name
