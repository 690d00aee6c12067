"""What a watch makes of the objects it is shown: facts worth telling, and the few fields kept to know what changed.

Pure of requests and of the bus. Reading the watch is in watching.py, telling in telling.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.objects import annotations, condition, images_of, labels, meta, workload_of
from opsbus_k8s_ops.podhealth import HEALTHY, Health, pod_health
from opsbus_k8s_ops.rollout import rollout_of

Key = tuple[str, str]
"""Namespace and name."""

IMAGES_MAX = 50
TEXT_CHARS_MAX = 400
UNSETTLED_MAX = 5_000
"""Pods looked at again without being told of; more are judged when something changes. Each takes about 2 KB."""

SAME_TROUBLE = {"ErrImagePull": "ImagePullBackOff"}
"""Causes between which a pod goes to and fro while nothing changes."""

GONE = "Deleted"
"""The reason where trouble ends because its object does."""


@dataclass(frozen=True)
class Fact:
    """Something to tell, once however many workers see it."""

    kind: str
    """Of the event: ``workload_seen``."""
    data: dict[str, Any]
    about: tuple[str, ...]
    """Of two facts about the same that wait to be told, the newer one is enough."""
    id: str
    """The same in every worker that sees the same."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def subject(self) -> str:
        """``shop/checkout``, or a node's name."""
        return "/".join(part for part in (str(self.data.get("namespace") or ""), str(self.data["name"])) if part)


class View(Protocol):
    """What is known of one kind of object in one cluster."""

    def __len__(self) -> int: ...
    def seen(self, obj: Obj) -> list[Fact]:
        """An object as it is now."""

    def gone(self, obj: Obj) -> list[Fact]:
        """An object in its last form."""

    def only(self, there: Iterable[Key]) -> list[Fact]:
        """All that is there now: what was known beyond it has gone unseen."""

    def later(self, now: datetime) -> list[Fact]:
        """What has become true by the passing of time alone."""

    def again(self) -> None:
        """What is told next may have been told before: the stream forgets."""


def key_of(obj: Obj) -> Key:
    """Of a cluster-wide object the namespace is empty."""
    return str(meta(obj).get("namespace") or ""), str(meta(obj).get("name") or "")


def fact_id(*parts: str) -> str:
    """An id for the bus, of what makes a fact that fact."""
    return sha256("\0".join(parts).encode()).hexdigest()[:40]


def _version(obj: Obj) -> str:
    return str(meta(obj).get("resourceVersion") or "")


def _uid(obj: Obj) -> str:
    return str(meta(obj).get("uid") or "")


class Workloads:
    """Deployments, stateful sets or daemon sets: told when images, replicas or revision change."""

    def __init__(self, cluster: str, kind: str) -> None:
        self._cluster = cluster
        self._kind = kind
        self._known: dict[Key, tuple[str, bytes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, obj: Obj) -> list[Fact]:
        key, data = key_of(obj), self._data(obj)
        mark = _uid(obj), sha256(repr(data).encode()).digest()[:12]
        if self._known.get(key) == mark:
            return []
        self._known[key] = mark
        name = fact_id("workload_seen", self._cluster, self._kind, mark[0], _version(obj))
        return [Fact("workload_seen", data, (self._cluster, self._kind, *key), name)]

    def gone(self, obj: Obj) -> list[Fact]:
        return self._gone(key_of(obj))

    def only(self, there: Iterable[Key]) -> list[Fact]:
        return [fact for key in self._known.keys() - set(there) for fact in self._gone(key)]

    def later(self, now: datetime) -> list[Fact]:
        return []

    def again(self) -> None:
        self._known = {key: (uid, b"") for key, (uid, _) in self._known.items()}

    def _gone(self, key: Key) -> list[Fact]:
        known = self._known.pop(key, None)
        if known is None:
            return []
        data = {"cluster": self._cluster, "namespace": key[0], "name": key[1], "kind": self._kind}
        name = fact_id("workload_deleted", self._cluster, self._kind, known[0])
        return [Fact("workload_deleted", data, (self._cluster, self._kind, *key), name)]

    def _data(self, obj: Obj) -> dict[str, Any]:
        template = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
        rollout = rollout_of(obj)
        data: dict[str, Any] = {
            "cluster": self._cluster,
            "namespace": key_of(obj)[0],
            "name": key_of(obj)[1],
            "kind": self._kind,
            "images": [image[:TEXT_CHARS_MAX] for image in images_of(template)[:IMAGES_MAX]],
            "replicas": rollout.desired,
            "ready": rollout.ready,
        }
        revision = annotations(obj).get("deployment.kubernetes.io/revision") or (obj.get("status") or {}).get(
            "updateRevision"
        )
        return data | ({"revision": str(revision)[:TEXT_CHARS_MAX]} if revision else {})


@dataclass
class _Pod:
    """A pod that is not simply running: as much of it as its verdict needs, and what was told of it."""

    slim: Obj
    told: str | None = None
    """The cause that was told; None: nothing was."""


class Pods:
    """Told when one becomes unhealthy, unhealthy in another way, or well again.

    Of a healthy pod nothing is kept at all, of another one what podhealth.py judges by: some verdicts come by the
    passing of time, with no event of the cluster's.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._known: dict[Key, _Pod] = {}

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, obj: Obj) -> list[Fact]:
        return self._judge(key_of(obj), slim_pod(obj), datetime.now(UTC))

    def gone(self, obj: Obj) -> list[Fact]:
        return self._gone(key_of(obj))

    def only(self, there: Iterable[Key]) -> list[Fact]:
        return [fact for key in self._known.keys() - set(there) for fact in self._gone(key)]

    def later(self, now: datetime) -> list[Fact]:
        return [fact for key, pod in list(self._known.items()) for fact in self._judge(key, pod.slim, now)]

    def again(self) -> None:
        """Nothing: of a pod its changes are told."""

    def _judge(self, key: Key, slim: Obj, now: datetime) -> list[Fact]:
        facts: list[Fact] = []
        known = self._known.get(key)
        if known is not None and _uid(known.slim) != _uid(slim):  # another of its name, as of a stateful set
            facts, known = self._gone(key), None
        health = pod_health(slim, now)
        before = known.told if known else None
        after = None if health.healthy else _cause(health)
        if health.severity >= HEALTHY:
            self._known.pop(key, None)
        elif known is not None or len(self._known) < UNSETTLED_MAX:
            self._known[key] = _Pod(slim, after)
        else:
            return facts
        if after != before:
            facts.append(self._fact("pod_unhealthy" if after else "pod_recovered", key, slim, health))
        return facts

    def _gone(self, key: Key) -> list[Fact]:
        known = self._known.pop(key, None)
        if known is None or known.told is None:
            return []
        return [self._fact("pod_recovered", key, known.slim, Health(GONE, HEALTHY, GONE, GONE))]

    def _fact(self, kind: str, key: Key, slim: Obj, health: Health) -> Fact:
        cause = _cause(health)
        data = {
            "cluster": self._cluster,
            "namespace": key[0],
            "name": key[1],
            "workload": workload_of(slim),
            "state": health.state,
            "cause": cause,
            "reason": health.reason or health.state,
        }
        name = fact_id(kind, self._cluster, _uid(slim), _version(slim), cause)
        return Fact(kind, data, (self._cluster, "pod", *key), name)


def _cause(health: Health) -> str:
    cause = health.cause or health.state
    return SAME_TROUBLE.get(cause, cause)


def slim_pod(pod: Obj) -> Obj:
    """What the verdict on a pod rests on, and whose it is."""
    spec, status, about = pod.get("spec") or {}, pod.get("status") or {}, meta(pod)
    names = ("namespace", "name", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
    kept = {name: about[name] for name in names if about.get(name)}
    if template := labels(pod).get("pod-template-hash"):
        kept["labels"] = {"pod-template-hash": template}
    kept["ownerReferences"] = [
        {"kind": owner.get("kind"), "name": owner.get("name")} for owner in (about.get("ownerReferences") or [])[:1]
    ]
    slim: Obj = {"metadata": kept, "spec": {}, "status": {}}
    slim["spec"]["containers"] = [
        {
            "name": container.get("name"),
            "resources": {
                "limits": {"memory": (((container.get("resources") or {}).get("limits")) or {}).get("memory")}
            },
        }
        for container in spec.get("containers") or []
    ]
    if gates := spec.get("schedulingGates"):
        slim["spec"]["schedulingGates"] = [{"name": gate.get("name")} for gate in gates[:1]]
    for name in ("phase", "reason", "startTime"):
        if status.get(name):
            slim["status"][name] = status[name]
    if status.get("message"):
        slim["status"]["message"] = str(status["message"])[:TEXT_CHARS_MAX]
    slim["status"]["conditions"] = [
        {
            **{name: entry.get(name) for name in ("type", "status", "reason", "lastTransitionTime")},
            "message": str(entry.get("message") or "")[:TEXT_CHARS_MAX],
        }
        for entry in status.get("conditions") or []
        if entry.get("type") in ("Ready", "PodScheduled")
    ]
    for name in ("initContainerStatuses", "containerStatuses"):
        if status.get(name):
            slim["status"][name] = [_slim_container(entry) for entry in status[name]]
    return slim


def _slim_container(entry: Obj) -> Obj:
    kept: Obj = {name: entry.get(name) for name in ("name", "ready", "restartCount")}
    kept["state"] = _slim_state(entry.get("state") or {})
    kept["lastState"] = _slim_state(entry.get("lastState") or {})
    return kept


def _slim_state(state: Obj) -> Obj:
    kept: Obj = {}
    for phase in ("waiting", "terminated"):
        if state.get(phase):
            said = state[phase]
            kept[phase] = {
                name: said[name] for name in ("reason", "exitCode", "finishedAt") if said.get(name) is not None
            }
            if said.get("message"):
                kept[phase]["message"] = str(said["message"])[:TEXT_CHARS_MAX]
    return kept


class Nodes:
    """Told when one stops being ready, or is again; at first how each is, for who told of it before may be gone."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._known: dict[Key, tuple[str, bool, bool]] = {}
        """Its uid, whether it is ready, and whether that was told."""

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, obj: Obj) -> list[Fact]:
        key, uid, ready = key_of(obj), _uid(obj), condition(obj, "Ready")
        is_ready, known = ready.get("status") == "True", self._known.get(key)
        facts: list[Fact] = []
        if known is not None and known[0] != uid:
            facts, known = self._gone(key), None
        self._known[key] = uid, is_ready, True
        if known != (uid, is_ready, True):
            since = str(ready.get("lastTransitionTime") or _version(obj))
            reason = str(ready.get("reason") or ("Ready" if is_ready else "NotReady"))
            facts.append(self._fact(key, uid, is_ready, reason, since))
        return facts

    def gone(self, obj: Obj) -> list[Fact]:
        return self._gone(key_of(obj))

    def only(self, there: Iterable[Key]) -> list[Fact]:
        return [fact for key in self._known.keys() - set(there) for fact in self._gone(key)]

    def later(self, now: datetime) -> list[Fact]:
        return []

    def again(self) -> None:
        self._known = {key: (uid, ready, False) for key, (uid, ready, _) in self._known.items()}

    def _gone(self, key: Key) -> list[Fact]:
        known = self._known.pop(key, None)
        if known is None or known[1]:
            return []
        return [self._fact(key, known[0], True, GONE, GONE)]

    def _fact(self, key: Key, uid: str, ready: bool, reason: str, since: str) -> Fact:
        kind = "node_ready" if ready else "node_not_ready"
        data = {"cluster": self._cluster, "name": key[1], "reason": reason[:TEXT_CHARS_MAX]}
        return Fact(kind, data, (self._cluster, "node", *key), fact_id(kind, self._cluster, uid, since))
