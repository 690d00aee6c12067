"""Reading lists whole but bounded.

Pages by limit and continue, a restart when the server has forgotten the snapshot (410).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import NAMES_ONLY, ClusterApi, Obj, path_of

T = TypeVar("T")

RESTARTS_MAX = 2
"""How often a list starts anew after a 410 before the server's own continuation is taken."""

TURN_S = 0.05
"""Objects are looked at for so long before others get a turn. Seconds."""

EVENTS = "/apis/events.k8s.io/v1"
"""The newer API of events: the same objects, with other names for some of their fields."""

NAMES_MAX = 1_000
"""Names read to find the one that was meant."""


@dataclass
class Listing(Generic[T]):
    """What was read. ``complete`` is false when the bound was reached before the end; ``version`` is the
    resourceVersion from which a watch misses nothing."""

    items: list[T] = field(default_factory=list)
    complete: bool = True
    version: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bounds:
    """How much one call reads: objects a request, objects in all."""

    page_size: int
    items_max: int


async def list_objects(
    api: ClusterApi,
    resource: str,
    namespace: str | None,
    keep: Callable[[Obj], T],
    bounds: Bounds,
    *,
    labels: str | None = None,
    fields: str | None = None,
    accept: str = "application/json",
    path: str | None = None,
) -> Listing[T]:
    """Every object that matches, up to the bound, each reduced by ``keep`` as its page arrives.

    A resource with several APIs is read from the best that the cluster serves and the caller may read.

    Args:
        fields: A field selector, of events in the words of core/v1.
        path: The address of the list, for a resource that path_of does not know.

    Raises:
        ToolError: the cluster's refusal, or ``backend_error`` when the list cannot be held together.
    """
    if path is not None:
        return await _list(api, path, resource, namespace, keep, bounds, labels, fields, accept)
    roots = await api.roots(resource)
    for root, other in zip(roots, [*roots[1:], None], strict=True):
        chosen = fields.replace("involvedObject.", "regarding.") if fields and root == EVENTS else fields
        address = path_of(resource, namespace, root=root)
        try:
            return await _list(api, address, resource, namespace, keep, bounds, labels, chosen, accept)
        except ToolError as error:
            # Rights are given by group, whatever its version.
            elsewhere = other is not None and other.rpartition("/")[0] != root.rpartition("/")[0]
            if not (other and error.code is ErrorCode.NOT_FOUND) and not (
                elsewhere and error.code is ErrorCode.FORBIDDEN
            ):
                raise
    raise AssertionError("there is a root")


async def _list(
    api: ClusterApi,
    path: str,
    resource: str,
    namespace: str | None,
    keep: Callable[[Obj], T],
    bounds: Bounds,
    labels: str | None,
    fields: str | None,
    accept: str,
) -> Listing[T]:
    query: list[tuple[str, str | int]] = [("labelSelector", labels)] if labels else []
    query += [("fieldSelector", fields)] if fields else []
    doing = f"list {resource} in " + (f"namespace {namespace}" if namespace else "all namespaces")
    result: Listing[T] = Listing()
    seen: set[str] = set()
    token, restarts = "", 0
    while True:
        limit = min(bounds.page_size, bounds.items_max - len(result.items))
        page_query = [*query, ("limit", limit)]
        if token:
            page_query.append(("continue", token))
        try:
            page = await api.get(path, doing, page_query, accept)
        except ToolError as error:
            if error.details.get("http_status") != 410 or restarts > RESTARTS_MAX:
                raise
            restarts += 1
            if restarts <= RESTARTS_MAX:
                result.items, token = [], ""
                seen.clear()
                continue
            token = str(error.details.get("continue") or "")
            if not token:
                raise
            result.warnings.append(f"{resource} changed while they were read: the list mixes two moments")
            continue
        if not token:  # of the first page: later ones may be of a later moment
            result.version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        turn = time.monotonic()
        for item in page.get("items") or []:
            if time.monotonic() - turn > TURN_S:
                await asyncio.sleep(0)  # a page may take a while to look at: the call goes on sending heartbeats
                turn = time.monotonic()
            uid = str((item.get("metadata") or {}).get("uid") or "")
            if uid and uid in seen:
                continue
            seen.add(uid)
            result.items.append(keep(item))
        token = str((page.get("metadata") or {}).get("continue") or "")
        if not token:
            return result
        if len(result.items) >= bounds.items_max:
            result.complete = False
            return result


async def names_of(api: ClusterApi, resource: str, namespace: str | None = None) -> list[str]:
    """The names of a resource's objects, in the API's order, at most NAMES_MAX."""
    listing = await list_objects(
        api, resource, namespace, lambda obj: str(obj["metadata"]["name"]), Bounds(500, NAMES_MAX), accept=NAMES_ONLY
    )
    return listing.items


async def get_object(api: ClusterApi, resource: str, namespace: str, name: str) -> Obj:
    """One object by name.

    Raises:
        ToolError: ``not_found`` with the names that are near, of namespaces or of objects, whichever is wrong.
    """
    kind = resource.removesuffix("s")
    try:
        return await api.get(path_of(resource, namespace, name), f"read {kind} {namespace}/{name}")
    except ToolError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        await require_namespace(api, namespace)
        near_names = near(name, await names_of(api, resource, namespace))
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name}: there is no {kind} {name!r} in namespace {namespace!r}",
            hint=f"{'k8s_get_pods' if resource == 'pods' else 'k8s_get_deployments'} lists what is there.",
            did_you_mean=near_names,
            details=error.details,
        ) from error


async def require_namespace(api: ClusterApi, namespace: str) -> None:
    """An API server lists nothing in a namespace that does not exist; a caller deserves to be told.

    Raises:
        ToolError: ``not_found`` with near names. A caller who may not read namespaces is left with the empty list.
    """
    try:
        await api.get(path_of("namespaces", None, namespace), f"read namespace {namespace}")
    except ToolError as error:
        if error.code is ErrorCode.FORBIDDEN:
            return
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        try:
            names = [name for name in await names_of(api, "namespaces") if api.names(name)]
        except ToolError as unlisted:
            if unlisted.code is not ErrorCode.FORBIDDEN:
                raise
            names = []
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name} has no namespace {namespace!r}",
            hint=f"There are: {', '.join(names[:30])}." if names else "Ask for the namespaces you may see.",
            did_you_mean=near(namespace, names),
            details={"cluster": api.name},
        ) from error
