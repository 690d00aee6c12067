"""How an asset does right now, reckoned from what events told: its workload, and the alerts, pods and nodes that are
unwell. Which of them are whose, too. Rules only: no storage, no tool."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

from opsbus_cmdb.drift import matching, place_of
from opsbus_cmdb.model import Asset
from opsbus_cmdb.workloads import Workload

FRESH = timedelta(hours=24)
"""What was not told again for longer is not known any more: who tells, tells what goes on again every six hours."""
KEPT = timedelta(days=7)
"""And after this it is forgotten."""
GRAVE = ("critical", "page", "emergency", "fatal", "disaster")
"""Severities of alerts that somebody should be woken for."""
_REASON_MAX = 160

State = Literal["ok", "degraded", "down", "unknown"]
_WORST = ("down", "degraded", "unknown", "ok")


def _absent(value: Any) -> bool:
    return value is None


class Live(BaseModel):
    """Live health, as events told of it."""

    health: State = Field(description="unknown: nothing was heard, or not lately; it is no ok.")
    reason: str | None = Field(default=None, exclude_if=_absent)
    age_s: int | None = Field(default=None, description="How old the knowledge is.", exclude_if=_absent)

    def line(self) -> str:
        """A few words a person reads."""
        known = f" ({self.reason}, {_aged(self.age_s)} ago)" if self.reason and self.age_s is not None else ""
        return f"now {self.health}{known}"


class Fact(BaseModel):
    """An alert, a pod or a node, as an event told of it last."""

    source: Literal["alert", "pod", "node"]
    key: str = Field(min_length=1, max_length=400)
    state: Literal["ok", "degraded", "down"] = Field(description="ok: resolved, recovered.")
    asset_key: str = Field(default="", max_length=400, description="Id or ref of the asset, where a label names it.")
    cluster: str = Field(default="", max_length=128)
    namespace: str = Field(default="", max_length=128)
    name: str = Field(default="", max_length=200)
    label: str = Field(default="", max_length=16, description="What the name is one of: workload, service, node.")
    environment: str = Field(default="", max_length=64)
    reason: str = Field(default="", max_length=1_000)
    since: datetime | None = None
    told_at: datetime
    old: bool = Field(default=False, description="Nothing was heard of it for too long.")


def whose(fact: Fact, assets: Iterable[Asset]) -> Asset | None:
    """The asset that a fact is about; None: there is none, or more than one. That is not guessed.

    Args:
        fact: What was told.
        assets: At least all assets of that id or ref, of that place, or of that name.
    """
    known = list(assets)
    named = [asset for asset in known if fact.asset_key and fact.asset_key in (asset.id, asset.ref)]
    if named:
        return named[0]
    if not fact.name:
        return None
    if fact.label == "node":
        found = [asset for asset in known if asset.kind == "host" and fact.name in _node_names(asset)]
        return _only([asset for asset in found if _node_cluster(asset) in ("", fact.cluster)] or found)
    if fact.namespace:
        found = [asset for asset in known if place_of(asset)[1:] == (fact.namespace, fact.name)]
        exact = [asset for asset in found if fact.cluster and place_of(asset)[0] == fact.cluster]
        return _only(exact or found, fact)
    return _only([asset for asset in known if asset.name == fact.name], fact)


def _only(found: list[Asset], fact: Fact | None = None) -> Asset | None:
    if fact is not None and len(found) > 1 and fact.environment:
        found = [asset for asset in found if asset.environment == fact.environment]
    if fact is not None and len(found) > 1 and fact.label == "service":
        found = [asset for asset in found if asset.kind == "service"]
    return found[0] if len(found) == 1 else None


def _node_names(asset: Asset) -> tuple[str, str]:
    return asset.name, asset.external_ids.get("kubernetes", "").rpartition("/")[2]


def _node_cluster(asset: Asset) -> str:
    return asset.external_ids.get("kubernetes", "").rpartition("/")[0]


def reckon(asset: Asset, workloads: Sequence[Workload], facts: Iterable[Fact], now: datetime) -> Live:
    """How the asset does.

    Args:
        asset: Whose health.
        workloads: What was last seen at its place, in whatever cluster.
        facts: Those that are about it.
        now: The moment to reckon for.
    """
    told: list[tuple[State, str, datetime]] = []
    workload = None if asset.asset_class == "infrastructure" else matching(asset, workloads)
    if workload is not None and (seen := _of_workload(workload)) is not None:
        told.append(_aging(*seen, workload.seen_at, now))
    whole = any(state == "ok" for state, _, _ in told)
    for fact in facts:
        # A pod that went while nobody watched is never told to be well; its workload is told again, and whole.
        left_behind = fact.source == "pod" and whole and now - fact.told_at > FRESH
        if fact.state != "ok" and not left_behind:
            told.append(_aging(fact.state, fact.reason, fact.told_at, now))
    if not told:
        return Live(health="unknown")
    told.sort(key=lambda item: (_WORST.index(item[0]), not _is_grave(item[1]), -item[2].timestamp()))
    state, reason, at = told[0]
    others = sum(item[0] not in ("ok", "unknown") for item in told[1:])
    more = f" (and {others} more)" if others else ""
    return Live(health=state, reason=reason[:_REASON_MAX] + more, age_s=max(0, int((now - at).total_seconds())))


def _is_grave(reason: str) -> bool:
    """Of what is equally bad, that which somebody calls critical is the reason to name."""
    return any(f"({severity})" in reason for severity in GRAVE)


def _of_workload(workload: Workload) -> tuple[State, str] | None:
    if workload.gone:
        return "down", "deleted"
    if workload.replicas == 0:
        return "down", "scaled to 0 replicas"
    if workload.replicas is None or workload.ready is None:
        return None
    shown = f"{workload.ready} of {workload.replicas} replicas ready"
    if workload.ready == 0:
        return "down", shown
    return ("ok" if workload.ready >= workload.replicas else "degraded"), shown


def _aging(state: State, reason: str, at: datetime, now: datetime) -> tuple[State, str, datetime]:
    if now - at <= FRESH:
        return state, reason, at
    return "unknown", f"last heard: {state}, {reason}", at


def _aged(seconds: int | None) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds is not None and seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
