"""Whose logs: from a pod, a workload or a selector to the runs of containers to read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.listing import Bounds, get_object, list_objects, names_of, require_namespace
from opsbus_k8s_ops.logstream import Source
from opsbus_k8s_ops.objects import meta, seconds_since
from opsbus_k8s_ops.podhealth import RECENT_S, pod_health

Previous = Literal["auto", "always", "never"]

KINDS = {"deployment": "deployments", "statefulset": "statefulsets", "daemonset": "daemonsets"}


async def find_pods(
    api: ClusterApi, namespace: str, pod: str | None, workload: str | None, label_selector: str | None, bounds: Bounds
) -> list[Obj]:
    """The pods meant, those with trouble first.

    Raises:
        ToolError: ``invalid_arguments`` unless exactly one way to name them is used; ``not_found`` with near names.
    """
    if sum(given is not None for given in (pod, workload, label_selector)) != 1:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "exactly one of pod, workload and label_selector must be given",
            hint="workload='checkout' reads all its pods, merged by time.",
        )
    if pod is not None:
        return [await get_object(api, "pods", namespace, pod)]
    selector = label_selector
    if workload is not None:
        selector = selector_of(await find_workload(api, namespace, workload))
    listing = await list_objects(api, "pods", namespace, lambda obj: obj, bounds, labels=selector)
    if not listing.items:
        await require_namespace(api, namespace)
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"cluster {api.name}: no pod in namespace {namespace!r} matches {workload or label_selector!r}",
            hint="k8s_get_deployments shows whether it is scaled to zero.",
        )
    now = datetime.now(UTC)
    return sorted(listing.items, key=lambda item: (pod_health(item, now).severity, str(meta(item).get("name"))))


async def find_workload(api: ClusterApi, namespace: str, workload: str) -> Obj:
    """A workload by ``kind/name``, or by its name alone among all kinds.

    Raises:
        ToolError: ``not_found`` with near names, ``invalid_arguments`` for a kind that has no pods.
    """
    kind, slash, name = workload.rpartition("/")
    if slash:
        resource = KINDS.get(kind.lower().removesuffix("s"))
        if resource is None:
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"workload: {kind!r} is no kind of workload",
                hint=f"Use a name, or one of {', '.join(KINDS)} before a slash.",
                did_you_mean=near(kind.lower(), KINDS),
            )
        return await get_object(api, resource, namespace, name)
    known: list[str] = []
    for resource in KINDS.values():
        names = await names_of(api, resource, namespace)
        if name in names:
            return await get_object(api, resource, namespace, name)
        known += names
    await require_namespace(api, namespace)
    raise ToolError(
        ErrorCode.NOT_FOUND,
        f"cluster {api.name}: there is no workload {name!r} in namespace {namespace!r}",
        hint="k8s_get_deployments lists them.",
        did_you_mean=near(name, known),
    )


def selector_of(workload: Obj) -> str:
    """A workload's selector in the API's own words."""
    selector = (workload.get("spec") or {}).get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression.get("key"), ",".join(expression.get("values") or [])
        said = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(str(said[expression["operator"]]))
    return ",".join(parts)


def sources_of(pod: Obj, wanted: Sequence[str] | None, previous: Previous, now: datetime) -> list[Source]:
    """The runs of a pod's containers to read. Init containers are read when they are named, or are what fails.

    Raises:
        ToolError: ``invalid_arguments`` for a container the pod does not have.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    main = [str(container.get("name")) for container in spec.get("containers") or []]
    init = [str(container.get("name")) for container in spec.get("initContainers") or []]
    states = {
        str(entry.get("name")): entry
        for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    }
    for name in wanted or []:
        if name not in main + init:
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"containers: pod {meta(pod).get('name')} has no container {name!r}",
                hint=f"It has: {', '.join(main + init)}.",
                did_you_mean=near(name, main + init),
            )
    chosen = list(wanted) if wanted else main + [name for name in init if _unfinished(states.get(name, {}))]
    namespace, name_of_pod = str(meta(pod).get("namespace", "")), str(meta(pod).get("name", ""))
    return [
        Source(namespace, name_of_pod, name, run)
        for name in chosen
        for run in _runs(states.get(name, {}), previous, now)
    ]


def _runs(status: Obj, previous: Previous, now: datetime) -> list[bool]:
    """Which runs to read: True is the one before. While a container waits to be started again, its current log is the
    previous run's, so that one is read, under its name."""
    if previous != "auto":
        return [previous == "always"]
    last = (status.get("lastState") or {}).get("terminated")
    state = status.get("state") or {}
    if not last:
        return [False]
    if "waiting" in state:
        return [True]
    started = seconds_since((state.get("running") or {}).get("startedAt"), now)
    return [True, False] if started is not None and started < RECENT_S else [False]


def _unfinished(status: Obj) -> bool:
    ended = (status.get("state") or {}).get("terminated")
    return bool(status) and not (ended and ended.get("exitCode") == 0)
