"""One object out of what a caller calls it: ``pod/NAME``, ``node/NAME``, or a workload's bare name.

Which kinds there are is discovery.py's; what is done with the object is the tools'.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import NAMES_ONLY, ClusterApi, Obj
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.discovery import ResourceKind
from opsbus_k8s_ops.family import Family
from opsbus_k8s_ops.listing import Bounds, list_objects, require_namespace
from opsbus_k8s_ops.logtargets import find_workload
from opsbus_k8s_ops.objects import meta

NAMES_MAX = 1_000


@dataclass(frozen=True)
class Located:
    """What was meant: a kind and a name, which need not exist any more."""

    kind: ResourceKind
    namespace: str
    name: str
    warnings: list[str] = field(default_factory=list)

    @property
    def family(self) -> Family:
        """The object and what it makes."""
        return Family(self.kind.kind, self.name)

    async def require_exists(self, api: ClusterApi) -> None:
        """
        Raises:
            ToolError: ``not_found`` with near names. A caller who may not read the object is not told.
        """
        try:
            await read_object(api, self.kind, self.namespace, self.name, accept=_NAME_ONLY)
        except ToolError as error:
            if error.code is not ErrorCode.FORBIDDEN:
                raise


async def locate(clusters: Clusters, api: ClusterApi, text: str, namespaces: Sequence[str] | None) -> Located:
    """The object a caller names. Of a bare name the workload is looked up, and exists.

    Raises:
        ToolError: ``not_found`` with near names for an unknown kind or workload; ``invalid_arguments`` unless exactly
            one namespace is named for a kind that lives in namespaces, and none for one that does not.
    """
    kind_text, slash, name = text.partition("/")
    if not slash:
        namespace = one_namespace(namespaces, text)
        clusters.require_allowed([namespace])
        found = await find_workload(api, namespace, text)
        kind, warnings = await clusters.discovery.find(api, str(found.get("kind") or "Deployment"))
        return Located(kind, namespace, text, warnings)
    kind, warnings = await clusters.discovery.find(api, kind_text)
    if not kind.namespaced:
        if namespaces:
            raise outside_namespaces(kind)
        return Located(kind, "", name, warnings)
    namespace = one_namespace(namespaces, text)
    clusters.require_allowed([namespace])
    return Located(kind, namespace, name, warnings)


_NAME_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


def one_namespace(namespaces: Sequence[str] | None, about: str) -> str:
    """
    Raises:
        ToolError: ``invalid_arguments`` unless exactly one namespace is named.
    """
    if not namespaces or len(namespaces) != 1:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{about!r} lives in a namespace: name exactly one",
            hint='namespaces=["shop"]; k8s_get_deployments name=... finds in which namespaces it is.',
        )
    return namespaces[0]


def outside_namespaces(kind: ResourceKind) -> ToolError:
    """A namespace was named for a kind that has none."""
    return ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        f"a {kind.kind} lives in no namespace",
        hint="Leave the namespace out.",
    )


async def read_object(
    api: ClusterApi, kind: ResourceKind, namespace: str, name: str, accept: str = "application/json"
) -> Obj:
    """One object of any kind.

    Raises:
        ToolError: ``not_found`` with near names, of namespaces or of objects, whichever is wrong.
    """
    where = f"{namespace}/{name}" if namespace else name
    try:
        return await api.get(kind.path(namespace, name), f"read {kind.kind} {where}", accept=accept)
    except ToolError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        if namespace:
            await require_namespace(api, namespace)
        place = f" in namespace {namespace!r}" if namespace else ""
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name}: there is no {kind.kind} {name!r}{place}",
            hint=f"k8s_get_resource kind={kind.qualified} without a name lists them.",
            did_you_mean=near(name, await _names(api, kind, namespace)),
            details=error.details,
        ) from error


async def _names(api: ClusterApi, kind: ResourceKind, namespace: str) -> list[str]:
    """Names that are there, or none when the caller may not list them."""
    if "list" not in kind.verbs:
        return []
    try:
        listing = await list_objects(
            api,
            kind.plural,
            namespace or None,
            lambda obj: str(meta(obj).get("name", "")),
            Bounds(500, NAMES_MAX),
            accept=NAMES_ONLY,
            path=kind.path(namespace or None),
        )
    except ToolError as error:
        if error.code is not ErrorCode.FORBIDDEN:
            raise
        return []
    return listing.items
