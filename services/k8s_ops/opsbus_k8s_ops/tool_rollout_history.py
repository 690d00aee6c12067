"""k8s_rollout_history."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from opsbus import Context
from opsbus_k8s_ops.arguments import Cluster, Limit, Namespace, PageCursor, Workload
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.logtargets import KINDS, find_workload
from opsbus_k8s_ops.objects import meta
from opsbus_k8s_ops.paging import Key, fit_page, query_digest
from opsbus_k8s_ops.revisions import CHANGES_MAX, Revision, revisions_of, template_changes
from opsbus_k8s_ops.rolloutmodels import RevisionRow, RolloutHistory, said

HistoryField = Literal["name", "created", "age_s", "images", "change_cause", "replicas", "ready", "changes"]
DEFAULT_FIELDS: tuple[HistoryField, ...] = ("age_s", "images", "change_cause", "replicas", "ready", "changes")

_FIRST = 10**12
"""Larger than any revision: the newest has the smallest key."""


async def rollout_history(
    ctx: Context[Clusters],
    namespace: Namespace,
    workload: Annotated[Workload, Field(description="checkout, or statefulset/redis.")],
    fields: Annotated[
        list[HistoryField] | None, Field(description="What each row has. Default: all but name and created.")
    ] = None,
    limit: Limit = 10,
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> RolloutHistory:
    """What was rolled out before: the revisions of a deployment, stateful or daemon set, and what each one changed.

    changes compares the pod template with the revision before (images, limits, environment, probes), secrets masked:
    the way to find what broke a workload. How the rollout stands now is in k8s_rollout_status. Example:
    namespace="shop", workload="checkout", limit=3.
    """
    clusters, now = ctx.state, datetime.now(UTC)
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    obj = await find_workload(api, namespace, workload)
    revisions = await revisions_of(api, obj, clusters.bounds)
    wanted = frozenset(fields or DEFAULT_FIELDS)
    name = f"{obj.get('kind')}/{meta(obj).get('name')}"
    rows = history_rows(revisions, now, wanted)
    warnings = [] if rows else ["the cluster keeps no revisions of it (revisionHistoryLimit)"]
    return fit_page(
        RolloutHistory,
        rows,
        limit=limit,
        total=len(rows),
        cursor=cursor,
        digest=query_digest(c=api.name, n=namespace, w=name),
        extra={"cluster": api.name, "namespace": namespace, "workload": name},
        warnings=warnings,
        source=f"kubernetes:{api.name}/{KINDS[str(obj.get('kind')).lower()]}",
        as_of=now,
    )


def history_rows(revisions: list[Revision], now: datetime, wanted: frozenset[str]) -> list[tuple[Key, RevisionRow]]:
    """A row per revision, with its place in the order."""
    rows = []
    for index, revision in enumerate(revisions):
        before = revisions[index + 1] if index + 1 < len(revisions) else None
        rows.append(((_FIRST - revision.number, "", revision.name), _row(revision, before, now, wanted)))
    return rows


def _row(revision: Revision, before: Revision | None, now: datetime, wanted: frozenset[str]) -> RevisionRow:
    changes = template_changes(before.template, revision.template) if before and "changes" in wanted else []
    age = (now - revision.created).total_seconds() if revision.created else None
    every = {
        "name": revision.name,
        "created": revision.created,
        "age_s": max(0, int(age)) if age is not None else None,
        "images": revision.images,
        "change_cause": said(revision.change_cause),
        "replicas": revision.replicas,
        "ready": revision.ready,
        "changes": changes[:CHANGES_MAX],
    }
    shown = {key: value for key, value in every.items() if key in wanted}
    left_out = len(changes) - CHANGES_MAX
    return RevisionRow(
        revision=revision.number,
        current=revision.current,
        changes_left_out=left_out if left_out > 0 else None,
        **shown,
    )
