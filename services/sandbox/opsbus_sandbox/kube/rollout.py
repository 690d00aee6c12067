"""The arithmetic of rolling updates, as pure functions over replica counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class Bounds:
    """How many pods more, and how many available ones fewer, a rollout may have than asked for."""

    surge: int
    unavailable: int


def resolve(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent of `total`."""
    if isinstance(value, str):
        exact = int(value.rstrip("%")) * total / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value)


def bounds_of(deployment: Obj) -> Bounds:
    """The bounds of a deployment's rollout; at least one of the two is not zero."""
    replicas = deployment["spec"]["replicas"]
    strategy = deployment["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Bounds(0, replicas)
    rolling = strategy.get("rollingUpdate") or {}
    surge = resolve(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = resolve(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(surge, min(unavailable, replicas))


def replicas_of(replicaset: Obj) -> int:
    """What a replica set is asked to have."""
    return int(replicaset["spec"].get("replicas", 0))


def available_of(replicaset: Obj) -> int:
    """What a replica set has available."""
    return int((replicaset.get("status") or {}).get("availableReplicas", 0))


def new_size(wanted: int, bounds: Bounds, newest: Obj, others: list[Obj]) -> int:
    """The size the newest replica set may have now."""
    current = replicas_of(newest)
    if current >= wanted:
        return wanted
    room = wanted + bounds.surge - sum(map(replicas_of, [newest, *others]))
    return current + max(0, min(room, wanted - current))


def old_sizes(wanted: int, bounds: Bounds, newest: Obj, others: list[Obj]) -> dict[str, int]:
    """The sizes the older replica sets may shrink to now, by name; only those that change."""
    everything = [newest, *others]
    floor = wanted - bounds.unavailable
    new_missing = replicas_of(newest) - available_of(newest)
    spare = sum(map(replicas_of, everything)) - floor - new_missing
    sizes: dict[str, int] = {}
    if spare <= 0:
        return sizes
    ordered = sorted(others, key=lambda rs: str(rs["metadata"]["creationTimestamp"]))
    # First what does not work anyway, then as many working ones as may be missing.
    for replicaset in ordered:
        broken = max(0, replicas_of(replicaset) - available_of(replicaset))
        gone = min(spare, broken)
        if gone:
            sizes[replicaset["metadata"]["name"]] = replicas_of(replicaset) - gone
            spare -= gone
    surplus = sum(map(available_of, everything)) - floor
    for replicaset in ordered:
        name = replicaset["metadata"]["name"]
        size = sizes.get(name, replicas_of(replicaset))
        gone = min(size, surplus)
        if gone > 0:
            sizes[name] = size - gone
            surplus -= gone
    return sizes


def proportional_sizes(wanted: int, bounds: Bounds, active: list[Obj]) -> dict[str, int]:
    """New sizes by name when a deployment is scaled in mid-rollout: each replica set gets its share."""
    total = sum(map(replicas_of, active))
    allowed = wanted + bounds.surge if wanted > 0 else 0
    change = allowed - total
    ordered = sorted(active, key=lambda rs: (-replicas_of(rs), str(rs["metadata"]["creationTimestamp"])))
    sizes = {}
    left = change
    for replicaset in ordered:
        share = round(replicas_of(replicaset) * change / total) if total else 0
        share = min(share, left) if change > 0 else max(share, left)
        sizes[replicaset["metadata"]["name"]] = max(0, replicas_of(replicaset) + share)
        left -= share
    if ordered and left:
        name = ordered[0]["metadata"]["name"]
        sizes[name] = max(0, sizes[name] + left)
    return sizes
