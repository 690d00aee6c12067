"""Nodes and the pods on them: reading both, and what each pod is to whoever wants the node empty."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import ClusterApi, Obj, path_of
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.listing import Bounds, list_objects, names_of
from opsbus_k8s_ops.objects import annotations, condition, labels, meta, workload_of

PODS_ON_NODE = Bounds(page_size=500, items_max=1_000)
"""A node takes 110 pods unless it is told otherwise; nobody drains one with more than this."""

NODES = Bounds(page_size=500, items_max=5_000)

MIRROR = "kubernetes.io/config.mirror"
"""On the API's picture of a static pod; the node itself runs it, so the API cannot stop it."""

CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

PodPart = Literal["managed", "unmanaged", "daemonset", "static", "finished"]


@dataclass(frozen=True)
class NodePod:
    """A pod as a drain sees it."""

    namespace: str
    name: str
    uid: str
    part: PodPart
    workload: str | None
    labels: tuple[tuple[str, str], ...]
    local_storage: tuple[str, ...]
    stopping: bool

    @property
    def stays(self) -> bool:
        """A drain leaves it: its daemon set would start it again at once, or only the node can stop it."""
        return self.part in ("daemonset", "static")

    @property
    def key(self) -> str:
        """``shop/checkout-7d9f8c5b4-x7k2p``."""
        return f"{self.namespace}/{self.name}"


def node_pod(pod: Obj) -> NodePod:
    """What a pod is to a drain."""
    spec = pod.get("spec") or {}
    part = _part(pod)
    volumes = [str(volume.get("name", "")) for volume in spec.get("volumes") or [] if "emptyDir" in volume]
    return NodePod(
        namespace=str(meta(pod).get("namespace", "")),
        name=str(meta(pod).get("name", "")),
        uid=str(meta(pod).get("uid", "")),
        part=part,
        workload=workload_of(pod),
        labels=tuple(sorted(labels(pod).items())),
        local_storage=tuple(volumes) if part != "finished" else (),
        stopping=bool(meta(pod).get("deletionTimestamp")),
    )


def _part(pod: Obj) -> PodPart:
    if MIRROR in annotations(pod):
        return "static"
    controllers = [owner for owner in meta(pod).get("ownerReferences") or [] if owner.get("controller")]
    if any(owner.get("kind") == "DaemonSet" for owner in controllers):
        return "daemonset"
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return "finished"
    return "managed" if controllers else "unmanaged"


async def pods_on(api: ClusterApi, node: str) -> list[NodePod]:
    """Every pod the node has, by namespace and name.

    Raises:
        ToolError: the cluster's refusal; ``result_too_large`` when there are more than anybody would drain.
    """
    listing = await list_objects(api, "pods", None, node_pod, PODS_ON_NODE, fields=f"spec.nodeName={node}")
    if not listing.complete:
        raise ToolError(
            ErrorCode.RESULT_TOO_LARGE,
            f"node {node} has more than {PODS_ON_NODE.items_max} pods",
            hint="This tool does not move so many at once.",
        )
    return sorted(listing.items, key=lambda pod: (pod.namespace, pod.name))


async def get_node(api: ClusterApi, name: str) -> Obj:
    """One node.

    Raises:
        ToolError: ``not_found`` with near names.
    """
    try:
        return await api.get(path_of("nodes", None, name), f"read node {name}")
    except ToolError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        names = await names_of(api, "nodes")
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name}: there is no node {name!r}",
            hint=f"There are: {', '.join(names[:30])}.",
            did_you_mean=near(name, names),
            details=error.details,
        ) from error


def require_whole_cluster(clusters: Clusters) -> None:
    """A node carries pods of every namespace.

    Raises:
        ToolError: ``forbidden`` when the settings open some namespaces alone.
    """
    if clusters.settings.namespaces:
        raise ToolError(
            ErrorCode.FORBIDDEN,
            "nodes are closed to these tools: a node carries pods of every namespace",
            hint=f"This worker serves the namespaces {', '.join(clusters.settings.namespaces)} alone.",
        )


def is_unschedulable(node: Obj) -> bool:
    """Whether it is cordoned."""
    return bool((node.get("spec") or {}).get("unschedulable"))


def node_warnings(node: Obj) -> list[str]:
    """What is special about it."""
    warnings = []
    if any(key in labels(node) for key in CONTROL_PLANE):
        warnings.append("it is a node of the control plane")
    ready = condition(node, "Ready")
    if ready and ready.get("status") != "True":
        warnings.append(f"it is not ready ({ready.get('reason') or 'unknown'})")
    return warnings


async def elsewhere_warnings(api: ClusterApi, node: str) -> list[str]:
    """Whether there is another node that takes pods. Not seeing them is a warning too."""
    try:
        listing = await list_objects(api, "nodes", None, _takes_pods, NODES)
    except ToolError as error:
        if error.code is not ErrorCode.FORBIDDEN:
            raise
        return [f"the other nodes were not looked at: {error.message}"]
    if any(takes for name, takes in listing.items if name != node):
        return []
    return ["no other node takes ordinary pods now: what has to start will wait"]


def _takes_pods(node: Obj) -> tuple[str, bool]:
    taints: Iterable[dict[str, Any]] = (node.get("spec") or {}).get("taints") or []
    closed = any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in taints)
    ready = condition(node, "Ready").get("status") == "True"
    return str(meta(node).get("name", "")), ready and not closed and not is_unschedulable(node)
