"""What a workload's controllers make, told by name: replica sets, pods, claims. No request is made here.

Names outlive objects: the events of a pod that is gone still belong to its workload.
"""

import re

SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
"""The letters Kubernetes makes names of."""

_SAFE = re.compile(f"{SAFE}*")
_NAME_MAX, _SUFFIX_LENGTH = 63, 5

_HASH = f"{SAFE}{{5,10}}"
_SUFFIX = f"{SAFE}{{5}}"

_MADE: dict[str, tuple[tuple[str, str], ...]] = {
    "Deployment": (("ReplicaSet", f"-{_HASH}"), ("Pod", f"-{_HASH}-{_SUFFIX}")),
    "ReplicaSet": (("Pod", f"-{_SUFFIX}"),),
    "StatefulSet": (("Pod", "-[0-9]+"),),
    "DaemonSet": (("Pod", f"-{_SUFFIX}"),),
    "Job": (("Pod", f"-{_SUFFIX}"),),
    "CronJob": (("Job", "-[0-9]+"), ("Pod", f"-[0-9]+-{_SUFFIX}")),
}
_BESIDE = frozenset({"HorizontalPodAutoscaler", "PodDisruptionBudget"})
_POD = re.compile(rf"(?P<workload>.+?)(?:-{_HASH})?-{_SUFFIX}|(?P<set>.+)-[0-9]+")


class Family:
    """A workload and what it makes."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._patterns = {made: re.compile(re.escape(name) + tail) for made, tail in _MADE.get(kind, ())}
        if kind == "StatefulSet":
            self._patterns["PersistentVolumeClaim"] = re.compile(rf".+-{re.escape(name)}-[0-9]+")

    @property
    def grows(self) -> bool:
        """It makes other objects."""
        return bool(self._patterns)

    def covers(self, kind: str, name: str) -> bool:
        """Whether an object of this kind and name is the workload, was made by it, or steers it."""
        if name == self.name and (kind == self.kind or (self.grows and kind in _BESIDE)):
            return True
        pattern = self._patterns.get(kind)
        if pattern is None:
            return False
        return pattern.fullmatch(name) is not None or (kind == "Pod" and self._is_cut(name))

    def _is_cut(self, pod: str) -> bool:
        """A pod of a workload with a long name: Kubernetes cuts what comes before the last five letters."""
        if len(pod) != _NAME_MAX:
            return False
        before, own = pod[:-_SUFFIX_LENGTH], f"{self.name}-"
        return own.startswith(before) or (before.startswith(own) and _SAFE.fullmatch(before, len(own)) is not None)


def siblings_of(kind: str, name: str) -> str:
    """What the objects of one workload have in common: ``checkout`` of the pod ``checkout-7d9f8c5b4-x7k2p``."""
    match = _POD.fullmatch(name) if kind == "Pod" else None
    if match is None:
        return name
    return match.group("workload") or match.group("set")
