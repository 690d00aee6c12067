"""k8s_get_events."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from opsbus import Context
from opsbus.when import parse_when
from opsbus_k8s_ops.arguments import Cluster, Limit, Namespaces, ObjectRef, PageCursor
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.eventrows import Event, EventList, count, group, merge, read_event
from opsbus_k8s_ops.locating import Located, locate
from opsbus_k8s_ops.paging import fit_page, query_digest
from opsbus_k8s_ops.scope import list_in_scope

EventField = Literal[
    "count", "objects", "others", "message", "first", "last", "age_s", "source", "container", "node"
]  # fmt: skip
DEFAULT_FIELDS: tuple[EventField, ...] = ("count", "objects", "others", "message", "first", "last", "age_s", "source")


async def get_events(
    ctx: Context[Clusters],
    namespaces: Namespaces = None,
    object: Annotated[
        ObjectRef | None,
        Field(
            description="Events of one object: pod/NAME, deployment/NAME, node/NAME. A bare name is a workload. "
            "A workload's include those of its replica sets and pods, also of pods that are gone."
        ),
    ] = None,
    since: Annotated[
        str, Field(max_length=64, description="Told last since then. RFC 3339, now-1h, or 15m for that long ago.")
    ] = "1h",
    types: Annotated[
        list[Literal["Warning", "Normal"]] | None, Field(max_length=2, description="Default: both, warnings first.")
    ] = None,
    reasons: Annotated[
        list[Annotated[str, Field(max_length=128)]] | None,
        Field(max_length=20, description="Only these: BackOff, FailedScheduling, Unhealthy."),
    ] = None,
    group_by: Annotated[
        Literal["namespace", "reason", "object", "workload", "node"] | None,
        Field(description="Counts per group in place of rows."),
    ] = None,
    fields: Annotated[
        list[EventField] | None, Field(description="What each row has. Default: all but container and node.")
    ] = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> EventList:
    """What the cluster said of its objects: why a pod is not scheduled, pulled, started or ready; warnings first.

    The same told again, or of several pods of a workload, is one row with a count. Clusters forget events after an
    hour or so. Use it after k8s_get_pods or k8s_get_deployments showed trouble; k8s_diagnose_workload has it all at
    once. Example: namespaces=["shop"], object="deployment/checkout", types=["Warning"].
    """
    clusters, now = ctx.state, datetime.now(UTC)
    api = clusters.api(ctx, cluster)
    after = parse_when(since, "since", now)
    located = await locate(clusters, api, object, namespaces) if object is not None else None
    keep = _keeper(after, frozenset(types or ()), frozenset(reasons or ()), located)
    listing = await list_in_scope(
        clusters,
        api,
        "events",
        namespaces,
        lambda obj: event if keep(event := read_event(obj)) else None,
        fields=_selector(located, types),
    )
    events = [event for event in listing.items if event is not None]
    if located and not events:
        await located.require_exists(api)
    # Thousands of messages take a while to compare: on a thread, so that the call goes on sending heartbeats.
    wanted = frozenset(fields or DEFAULT_FIELDS)
    rows = [] if group_by else await asyncio.to_thread(merge, events, now, wanted)
    return fit_page(
        EventList,
        rows,
        limit=limit,
        total=len(rows),
        cursor=cursor,
        digest=query_digest(c=api.name, n=namespaces, o=object, s=since, t=types, r=reasons),
        extra={
            "cluster": api.name,
            "counts": count(events),
            "groups": group(events, group_by) if group_by else [],
        },
        warnings=[*(located.warnings if located else []), *listing.warnings],
        source=f"kubernetes:{api.name}/events",
        as_of=now,
    )


def _keeper(
    after: datetime, types: frozenset[str], reasons: frozenset[str], located: Located | None
) -> Callable[[Event], bool]:
    family = located.family if located else None

    def keep(event: Event) -> bool:
        if event.last < after or (types and event.type not in types) or (reasons and event.reason not in reasons):
            return False
        return family is None or family.covers(event.kind, event.name)

    return keep


def _selector(located: Located | None, types: list[Literal["Warning", "Normal"]] | None) -> str | None:
    """What the API server can choose by itself."""
    parts = [f"type={types[0]}"] if types and len(types) == 1 else []
    if located and not located.family.grows:
        parts += [f"involvedObject.kind={located.family.kind}", f"involvedObject.name={located.family.name}"]
    return ",".join(parts) or None
