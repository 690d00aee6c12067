"""Which namespaces a list looks at, and reading them.

One request to the cluster when it is all of them, else one each.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import Bounds, Listing, list_objects, names_of, require_namespace

T = TypeVar("T")


async def list_in_scope(
    clusters: Clusters,
    api: ClusterApi,
    resource: str,
    namespaces: Sequence[str] | None,
    keep: Callable[[Obj], T],
    *,
    labels: str | None = None,
    fields: str | None = None,
    path: Callable[[str | None], str] | None = None,
) -> Listing[T]:
    """Every matching object of the namespaces, up to the worker's bound.

    Args:
        path: The address of a namespace's list, for a resource that path_of does not know.

    Raises:
        ToolError: ``not_found`` for a namespace that does not exist, ``forbidden`` for one that is closed, the
        cluster's own.
    """
    if namespaces:
        clusters.require_allowed(namespaces)
        scope: list[str | None] = list(dict.fromkeys(namespaces))
    elif clusters.settings.namespaces:
        scope = [name for name in await names_of(api, "namespaces") if clusters.allowed(name)]
    else:
        scope = [None]
    whole: Listing[T] = Listing()
    for namespace in scope:
        room = clusters.bounds.items_max - len(whole.items)
        if room <= 0:
            whole.complete = False
            break
        bounds = Bounds(clusters.bounds.page_size, room)
        part = await _one(api, resource, namespace, keep, bounds, labels, fields, path)
        if namespace and not part.items:
            await require_namespace(api, namespace)
        whole.items += part.items
        whole.warnings += part.warnings
        whole.complete = whole.complete and part.complete
    if not whole.complete:
        whole.warnings.append(
            f"only the first {len(whole.items)} {resource} were looked at: counts and order hold for those;"
            " narrow by namespaces or label_selector"
        )
    return whole


async def _one(
    api: ClusterApi,
    resource: str,
    namespace: str | None,
    keep: Callable[[Obj], T],
    bounds: Bounds,
    labels: str | None,
    fields: str | None,
    path: Callable[[str | None], str] | None,
) -> Listing[T]:
    try:
        address = path(namespace) if path else None
        return await list_objects(api, resource, namespace, keep, bounds, labels=labels, fields=fields, path=address)
    except ToolError as error:
        if error.code is ErrorCode.FORBIDDEN and namespace is None:
            error.hint = f"Name the namespaces you may read in `namespaces`. {error.hint}"
        raise
