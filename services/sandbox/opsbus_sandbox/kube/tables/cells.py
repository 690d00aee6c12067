"""What tables are made of: columns, ages, and the words a cell uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opsbus_sandbox.clock import parse_timestamp

Obj = dict[str, Any]
NONE = "<none>"


@dataclass(frozen=True)
class Column:
    """One column; `priority` 1 shows only in the wide form. `cell` makes the value from the object."""

    name: str
    cell: Callable[[Obj], Any]
    type: str = "string"
    priority: int = 0


def age(since: str | None) -> str:
    """How long ago, as kubectl writes it: `42s`, `5m10s`, `3h12m`, `4d`."""
    if not since:
        return "<unknown>"
    return duration((datetime.now(UTC) - parse_timestamp(since)).total_seconds())


def duration(seconds: float) -> str:
    """A duration in at most two units."""
    total = max(0, int(seconds))
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y{days % 365}d"


def dig(obj: Obj, *path: str, default: Any = "") -> Any:
    """A nested value, or the default where a step is missing."""
    value: Any = obj
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return default
    return value


def listed(values: list[str]) -> str:
    """Values joined, or <none>."""
    return ",".join(values) if values else NONE


def labels_text(labels: Obj | None) -> str:
    """Labels as key=value, or <none>."""
    return listed([f"{key}={value}" for key, value in sorted((labels or {}).items())])


NAME = Column("Name", lambda obj: obj["metadata"]["name"])
AGE = Column("Age", lambda obj: age(obj["metadata"].get("creationTimestamp")))


def container_columns(spec: Callable[[Obj], Obj]) -> tuple[Column, Column]:
    """The wide columns that name a template's containers and images."""
    return (
        Column("Containers", lambda obj: ",".join(c["name"] for c in spec(obj).get("containers", [])), priority=1),
        Column("Images", lambda obj: ",".join(c["image"] for c in spec(obj).get("containers", [])), priority=1),
    )
