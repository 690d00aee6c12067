"""What a drain would do, for whoever confirms it: which pods go, which stay, what is lost, what will hold it up."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from opsbus import Change, ErrorCode, Plan, ToolError, Undo
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.autoscaling import GUARDS, pods_needed, selects
from opsbus_k8s_ops.listing import list_objects
from opsbus_k8s_ops.nodes import NodePod, elsewhere_warnings, is_unschedulable, node_warnings
from opsbus_k8s_ops.objects import meta
from opsbus_k8s_ops.writes import version_of

NAMESPACES_SHOWN = 15
"""A change of the plan each; the text of a plan shows twenty changes, and every pod shall be in it."""
NAMED_MAX = 12
"""Pods named in a warning."""


@dataclass(frozen=True)
class Choice:
    """What the caller takes into account. The fields are the arguments of the tool."""

    force: bool
    delete_local_data: bool


def goes_and_stays(pods: Sequence[NodePod]) -> tuple[list[NodePod], list[NodePod]]:
    """The pods a drain moves, and those it leaves."""
    return [pod for pod in pods if not pod.stays], [pod for pod in pods if pod.stays]


def objections(pods: Sequence[NodePod], choice: Choice) -> dict[str, list[str]]:
    """What would be lost without being asked for, by the argument that asks for it."""
    asked = [pod for pod in pods if not pod.stopping]
    unmanaged = [pod.key for pod in asked if pod.part == "unmanaged"]
    storage = [f"{pod.key} ({', '.join(pod.local_storage)})" for pod in asked if pod.local_storage]
    found = {}
    if unmanaged and not choice.force:
        found["force"] = unmanaged
    if storage and not choice.delete_local_data:
        found["delete_local_data"] = storage
    return found


def require_asked_for(node: str, pods: Sequence[NodePod], choice: Choice) -> None:
    """
    Raises:
        ToolError: ``precondition_failed``: pods nothing starts again, or whose data is lost, and nobody asked for that.
    """
    found = objections(pods, choice)
    if not found:
        return
    raise ToolError(
        ErrorCode.PRECONDITION_FAILED,
        f"node {node} is not drained: {'; '.join(_objection(name, keys) for name, keys in found.items())}",
        hint=f"Look at them first (dry_run=true shows all); then {' and '.join(f'{name}=true' for name in found)}.",
        details={name: keys[:100] for name, keys in found.items()},
    )


def _objection(argument: str, keys: list[str]) -> str:
    if argument == "force":
        return f"{_named(keys)} would be gone for good, for nothing starts them again"
    return f"{_named(keys)} would lose the data of emptyDir volumes"


async def plan_drain(
    api: ClusterApi, node: Obj, pods: Sequence[NodePod], choice: Choice, reason: str, undo: Undo
) -> Plan:
    """What would be done, and what stands against it.

    Nothing in it varies by the second: who confirms it must still find the same plan when the answer comes.
    """
    name = str(meta(node).get("name"))
    going, staying = goes_and_stays(pods)
    going = [pod for pod in going if not pod.stopping]
    cordoned = is_unschedulable(node)
    changes = [] if cordoned else [Change(path="spec.unschedulable", before=False, after=True)]
    warnings = [*node_warnings(node), *await elsewhere_warnings(api, name)]
    warnings += [f"refused as it stands: {_objection(*item)}" for item in objections(going, choice).items()]
    if choice.force and (unmanaged := [pod.key for pod in going if pod.part == "unmanaged"]):
        warnings.append(_objection("force", unmanaged))
    if choice.delete_local_data and (stored := [pod.key for pod in going if pod.local_storage]):
        warnings.append(_objection("delete_local_data", stored))
    warnings += await budget_warnings(api, going)
    if cordoned:
        warnings.append("it is cordoned already, and stays so: there is nothing to undo")
    workloads = {(pod.namespace, pod.workload) for pod in going if pod.workload}
    return Plan(
        summary=f"Drain node {name} in cluster {api.name}: {len(going)} pods are evicted ({reason})",
        changes=[*changes, *pod_changes(going)],
        blast_radius=f"{len(going)} pods of {len(workloads)} workloads stop and start on other nodes"
        + (f"; {_stay(staying)} stay" if staying else ""),
        undo=None if cordoned else undo,
        warnings=warnings,
    )


def pod_changes(going: Sequence[NodePod]) -> list[Change]:
    """Every pod that goes, by namespace."""
    by_namespace: dict[str, list[str]] = {}
    for pod in going:
        by_namespace.setdefault(pod.namespace, []).append(pod.name + _marks(pod))
    shown = list(by_namespace.items())
    changes = [Change(path=f"pods in {name}", before=pods, after="evicted") for name, pods in shown[:NAMESPACES_SHOWN]]
    rest = [f"{name}/{pod}" for name, pods in shown[NAMESPACES_SHOWN:] for pod in pods]
    return [*changes, *([Change(path="pods in other namespaces", before=rest, after="evicted")] if rest else [])]


def _marks(pod: NodePod) -> str:
    kind, _, workload = (pod.workload or "").partition("/")
    # A name that begins with its workload's says it already.
    owner = kind if pod.name.startswith(f"{workload}-") else pod.workload or ""
    marks = [owner] if pod.part == "managed" else [pod.part]
    marks += [f"local storage {', '.join(pod.local_storage)}"] if pod.local_storage else []
    return f" ({'; '.join(mark for mark in marks if mark)})"


def _stay(staying: Sequence[NodePod]) -> str:
    daemons = [pod.key for pod in staying if pod.part == "daemonset"]
    static = [pod.key for pod in staying if pod.part == "static"]
    parts = [f"{len(daemons)} of daemon sets ({_named(daemons)})"] if daemons else []
    parts += [f"{len(static)} static ones ({_named(static)})"] if static else []
    return " and ".join(parts)


async def budget_warnings(api: ClusterApi, going: Sequence[NodePod]) -> list[str]:
    """Which disruption budgets hold it up, which never let go, and which pods nothing guards."""
    try:
        listing = await list_objects(api, "poddisruptionbudgets", None, lambda obj: obj, GUARDS)
    except ToolError as error:
        if error.code is not ErrorCode.FORBIDDEN:
            raise
        return [f"disruption budgets were not looked at: {error.message}"]
    warnings, guarded, budgets_of = [], set(), dict.fromkeys((pod.uid for pod in going), 0)
    for budget in sorted(listing.items, key=lambda obj: (str(meta(obj).get("namespace")), str(meta(obj).get("name")))):
        held = [pod for pod in going if pod.namespace == meta(budget).get("namespace") and _selected(budget, pod)]
        if not held:
            continue
        for pod in held:
            guarded.add(pod.uid)
            budgets_of[pod.uid] += 1
        warnings.append(_budget_warning(budget, held))
    if twice := [pod.key for pod in going if budgets_of[pod.uid] > 1]:
        warnings.append(f"{_named(twice)} have more than one disruption budget: the cluster evicts none of them")
    together: dict[tuple[str, str], int] = {}
    for pod in going:
        if pod.workload and pod.part == "managed" and pod.uid not in guarded:
            together[pod.namespace, pod.workload] = together.get((pod.namespace, pod.workload), 0) + 1
    if several := [f"{namespace}/{name} ({n})" for (namespace, name), n in together.items() if n > 1]:
        warnings.append(f"no disruption budget guards them, so their pods here go at once: {_named(several)}")
    return warnings


def _selected(budget: Obj, pod: NodePod) -> bool:
    return selects((budget.get("spec") or {}).get("selector"), dict(pod.labels))


def _budget_warning(budget: Obj, held: Sequence[NodePod]) -> str:
    name = f"{meta(budget).get('namespace')}/{meta(budget).get('name')}"
    expected = int((budget.get("status") or {}).get("expectedPods") or 0)
    pods = f"{len(held)} pod{'s' if len(held) != 1 else ''}"
    needed = pods_needed(budget, expected)
    if expected and needed >= expected:
        return f"the disruption budget {name} wants all of its {expected} pods available: it never lets {pods} here go"
    return f"the disruption budget {name} ({needed} of {expected} stay available) decides when {pods} here go"


def confirmed_version(node: Obj, going: Sequence[NodePod]) -> str:
    """What a confirmation is bound to: the node as it is, and the very pods that go.

    Those that are stopping already go by themselves, at any moment.
    """
    uids = sha256(" ".join(sorted(pod.uid for pod in going if not pod.stopping)).encode()).hexdigest()[:16]
    return f"{version_of(node)}/{uids}"


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED_MAX} more" if len(keys) > NAMED_MAX else ""
    return ", ".join(keys[:NAMED_MAX]) + more
