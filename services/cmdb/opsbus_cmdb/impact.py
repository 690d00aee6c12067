"""What an outage or a change hits, reckoned from relationships: how badly, how surely, and why. No storage, no tool."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from opsbus_cmdb.model import Asset, Relationship

STALE = timedelta(days=7)
"""A relationship or asset that no source has seen for this long counts for half."""
STEP = 0.95
"""Each step away makes the conclusion less sure."""


class Level(IntEnum):
    """How badly something is hit; the greater the worse."""

    AT_RISK = 1
    """It goes on, with less in reserve."""
    DEGRADED = 2
    """It loses a function, or is away until a standby takes over."""
    OUTAGE = 3
    """It fails."""


@dataclass(frozen=True)
class Hit:
    """An asset that is hit."""

    asset: Asset
    level: Level
    steps: int
    confidence: float
    """0 to 1."""
    reason: str
    via: tuple[str, ...]
    """Refs from what fails to this asset, without either end."""


@dataclass
class Graph:
    """Assets by id, and who needs whom."""

    assets: dict[str, Asset] = field(default_factory=dict)
    edges: dict[str, Relationship] = field(default_factory=dict)

    def add(self, assets: Iterable[Asset], edges: Iterable[Relationship]) -> None:
        """Put what was walked into it."""
        self.assets |= {asset.id: asset for asset in assets}
        self.edges |= {edge.id: edge for edge in edges}


def passed_on(level: Level, edge: Relationship) -> Level:
    """What a hit on the needed asset is for the one that needs it.

    A relationship's redundancy says whether what is needed can lose one of its kind: then a failure costs reserve
    (several at once), or the time that a standby takes.
    """
    hard = edge.impact == "hard"
    if level is Level.AT_RISK:
        return Level.AT_RISK
    if edge.redundancy in ("", "none"):
        if level is Level.OUTAGE:
            return Level.OUTAGE if hard else Level.DEGRADED
        return Level.DEGRADED if hard else Level.AT_RISK
    if edge.redundancy == "standby":
        return Level.DEGRADED if hard and level is Level.OUTAGE else Level.AT_RISK
    return Level.AT_RISK if level is Level.DEGRADED or not hard else Level.DEGRADED


def reckon(graph: Graph, roots: Iterable[str], now: datetime, start: Level = Level.OUTAGE) -> list[Hit]:
    """Everything that roots' failure hits, the worst and surest first; the roots are not in it.

    An asset reached along several ways is hit as badly as the worst of them.
    """
    needing: dict[str, list[Relationship]] = {}
    for edge in graph.edges.values():
        needing.setdefault(edge.to_id, []).append(edge)
    given = list(roots)
    hits: dict[str, Hit] = {}
    frontier: list[tuple[str, Level, float, int, tuple[str, ...]]] = [(root, start, 1.0, 0, ()) for root in given]
    while frontier:
        reached: dict[str, Hit] = {}
        for asset_id, level, confidence, steps, via in frontier:
            for edge in needing.get(asset_id, ()):
                hit = _hit(graph, edge, level, confidence, steps, via, now)
                if hit is None or edge.from_id in given or not _worse(hit, hits.get(edge.from_id)):
                    continue
                if _worse(hit, reached.get(edge.from_id)):
                    reached[edge.from_id] = hit
        hits |= reached
        # Only what got worse is looked at again; levels only rise, so a cycle ends.
        frontier = [
            (key, hit.level, hit.confidence, hit.steps, (*hit.via, hit.asset.ref)) for key, hit in reached.items()
        ]
    return sorted(hits.values(), key=lambda hit: (-hit.level, -hit.confidence, hit.steps, hit.asset.ref))


def _hit(
    graph: Graph, edge: Relationship, level: Level, confidence: float, steps: int, via: tuple[str, ...], now: datetime
) -> Hit | None:
    asset, needed = graph.assets.get(edge.from_id), graph.assets.get(edge.to_id)
    if asset is None or needed is None:
        return None
    how = (
        f"{edge.impact}, {edge.redundancy or 'no'} redundancy"
        if edge.redundancy != "none"
        else f"{edge.impact}, nothing redundant"
    )
    return Hit(
        asset=asset,
        level=passed_on(level, edge),
        steps=steps + 1,
        confidence=round(confidence * STEP * _sure(asset.confidence, edge.last_seen, now), 3),
        reason=f"{edge.type.value} {needed.ref} ({how})",
        via=via,
    )


def _sure(confidence: float, last_seen: datetime | None, now: datetime) -> float:
    return confidence / 2 if last_seen is not None and now - last_seen > STALE else confidence


def _worse(hit: Hit, known: Hit | None) -> bool:
    return known is None or hit.level > known.level
