"""Events of a cluster made rows: the same told again, or told of a sibling pod, is one row with a count.

Reading them is in tool_events.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.family import siblings_of
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.models import empty, optional, rows_text
from opsbus_k8s_ops.objects import in_words, meta, parse_time
from opsbus_k8s_ops.paging import Key
from opsbus_k8s_ops.patterns import read_line

MESSAGE_CHARS_MAX = 500
OBJECTS_SHOWN = 5
GROUPS_MAX = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_S = 10**11
"""More seconds than any event is old: the newest has the smallest key."""


class EventRow(BaseModel):
    """What was told, how often, of what."""

    namespace: str
    type: str = Field(description="Warning or Normal.")
    reason: str = Field(description="One word: BackOff, FailedScheduling, Unhealthy, ...")
    object: str = Field(description="Pod/checkout-7d9f8c5b4-x7k2p: what it was told of last.")
    count: int | None = optional("How often in all.")
    objects: int | None = optional("Of how many objects, when of several.")
    others: list[str] | None = optional("The first of the other objects.")
    message: str | None = optional("As told last; secrets masked.")
    first: datetime | None = optional("RFC 3339.")
    last: datetime | None = optional("RFC 3339.")
    age_s: int | None = optional("Seconds since it was told last.")
    source: str | None = optional("Who tells it: kubelet, default-scheduler, ...")
    container: str | None = optional()
    node: str | None = optional()

    def to_text(self) -> str:
        """One line."""
        times = f" x{self.count}" if self.count is not None else ""
        where = f" and {self.objects - 1} more" if self.objects and self.objects > 1 else ""
        ago = f", {in_words(self.age_s)} ago" if self.age_s is not None else ""
        return f"{self.type} {self.reason}{times} {self.namespace}/{self.object}{where}{ago}: {self.message or ''}"


class EventGroup(BaseModel):
    """One group, asked for by group_by."""

    key: str
    events: int = Field(description="Times something was told.")
    warnings: int = Field(description="Of them, warnings.")
    reasons: dict[str, int] = Field(description="Reason to how often.")


class EventCounts(BaseModel):
    """Of everything that matched."""

    events: int = Field(default=0, description="Times something was told.")
    warnings: int = Field(default=0, description="Of them, warnings.")
    reasons: dict[str, int] = Field(default_factory=dict, description="Reason to how often, the most frequent first.")


class EventList(Page[EventRow]):
    """Events, the warnings first, then the newest."""

    cluster: str = ""
    counts: EventCounts = Field(default_factory=EventCounts)
    groups: list[EventGroup] = Field(
        default_factory=list, exclude_if=empty, description="With group_by: instead of rows."
    )

    def to_text(self) -> str:
        """Counts, then a line per row."""
        told = ", ".join(f"{count} {reason}" for reason, count in list(self.counts.reasons.items())[:10])
        lines = [f"{self.cluster}: {self.counts.events} events, {self.counts.warnings} warnings"]
        lines[0] += f" ({told})" if told else ""
        lines += [f"  {group.key}: {group.events}, {group.warnings} warnings" for group in self.groups[:40]]
        return "\n".join([*lines, *rows_text(self)])


@dataclass(frozen=True)
class Event:
    """One event object, read."""

    namespace: str
    type: str
    reason: str
    kind: str
    name: str
    message: str
    count: int
    first: datetime
    last: datetime
    source: str
    container: str
    node: str

    @property
    def object(self) -> str:
        """``Pod/checkout-7d9f8c5b4-x7k2p``."""
        return f"{self.kind}/{self.name}"

    @property
    def same(self) -> tuple[str, ...]:
        """Equal for events that tell the same of one object or its siblings."""
        about = siblings_of(self.kind, self.name)
        pattern = read_line(self.message.replace(self.name, "<name>"))[0]
        return (self.namespace, self.type, self.reason, self.kind, about, self.container, pattern)


def about_of(obj: Obj) -> Obj:
    """What an event is about, in either API."""
    return obj.get("involvedObject") or obj.get("regarding") or {}


def read_event(obj: Obj) -> Event:
    """An event of core/v1 or events.k8s.io/v1, told in the old way (count, timestamps) or the new one (series,
    eventTime)."""
    about = about_of(obj)
    source, series = obj.get("source") or obj.get("deprecatedSource") or {}, obj.get("series") or {}
    told_first, told_last = (
        obj.get(f"{name}Timestamp") or obj.get(f"deprecated{name.title()}Timestamp") for name in ("first", "last")
    )
    created = parse_time(meta(obj).get("creationTimestamp")) or _EPOCH
    first = parse_time(told_first) or parse_time(obj.get("eventTime")) or created
    last = parse_time(series.get("lastObservedTime")) or parse_time(told_last) or first
    times = max(int(series.get("count") or 0), int(obj.get("count") or obj.get("deprecatedCount") or 0), 1)
    path = str(about.get("fieldPath") or "")
    return Event(
        namespace=str(about.get("namespace") or meta(obj).get("namespace") or ""),
        type=str(obj.get("type") or "Normal"),
        reason=str(obj.get("reason") or ""),
        kind=str(about.get("kind") or ""),
        name=str(about.get("name") or ""),
        message=mask_text(" ".join(str(obj.get("message") or obj.get("note") or "").split()))[:MESSAGE_CHARS_MAX],
        count=times,
        first=min(first, last),
        last=last,
        source=str(source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""),
        container=path.partition("{")[2].rstrip("}"),
        node=str(source.get("host") or ""),
    )


@dataclass
class _Told:
    latest: Event
    first: datetime
    count: int = 0
    objects: dict[str, None] = field(default_factory=dict)


def merge(events: Iterable[Event], now: datetime, wanted: frozenset[str]) -> list[tuple[Key, EventRow]]:
    """A row for all that tell the same, with the wanted fields and its place in the order."""
    told: dict[tuple[str, ...], _Told] = {}
    for event in events:
        entry = told.setdefault(event.same, _Told(event, event.first))
        entry.count += event.count
        entry.objects[event.object] = None
        entry.first = min(entry.first, event.first)
        if event.last > entry.latest.last:
            entry.latest = event
    return [(_key(entry, same), _row(entry, now, wanted)) for same, entry in told.items()]


def _key(entry: _Told, same: tuple[str, ...]) -> Key:
    rank = 0 if entry.latest.type != "Normal" else 1
    age = _FAR_S - int((entry.latest.last - _EPOCH).total_seconds())
    return rank * _FAR_S * 10 + age, entry.latest.namespace, "/".join(same[2:])[:200]


def _row(entry: _Told, now: datetime, wanted: frozenset[str]) -> EventRow:
    latest = entry.latest
    others = [name for name in entry.objects if name != latest.object]
    every: dict[str, Any] = {
        "count": entry.count,
        "objects": len(entry.objects) if others else None,
        "others": others[:OBJECTS_SHOWN],
        "message": latest.message,
        "first": entry.first,
        "last": latest.last,
        "age_s": max(0, int((now - latest.last).total_seconds())),
        "source": latest.source or None,
        "container": latest.container or None,
        "node": latest.node or None,
    }
    shown = {key: value for key, value in every.items() if key in wanted}
    return EventRow(namespace=latest.namespace, type=latest.type, reason=latest.reason, object=latest.object, **shown)


def count(events: Iterable[Event]) -> EventCounts:
    """How often what was told."""
    counts = EventCounts()
    for event in events:
        counts.events += event.count
        counts.warnings += event.count * (event.type != "Normal")
        counts.reasons[event.reason] = counts.reasons.get(event.reason, 0) + event.count
    counts.reasons = dict(sorted(counts.reasons.items(), key=lambda item: (-item[1], item[0]))[:30])
    return counts


def group(events: Iterable[Event], by: str) -> list[EventGroup]:
    """Counts per group, those with most warnings first."""
    members: dict[str, list[Event]] = {}
    for event in events:
        keys = {
            "namespace": event.namespace,
            "reason": event.reason,
            "object": f"{event.namespace}/{event.object}",
            "workload": f"{event.namespace}/{siblings_of(event.kind, event.name)}",
            "node": event.node or "(none)",
        }
        members.setdefault(keys[by], []).append(event)
    found = []
    for key, told in members.items():
        counts = count(told)
        reasons = dict(list(counts.reasons.items())[:5])
        found.append(EventGroup(key=key, events=counts.events, warnings=counts.warnings, reasons=reasons))
    return sorted(found, key=lambda entry: (-entry.warnings, -entry.events, entry.key))[:GROUPS_MAX]
