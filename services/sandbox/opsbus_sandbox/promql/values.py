"""What expressions evaluate to: scalars, strings, instant vectors and range vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from opsbus_sandbox.promql.database import Labels


class Sample(NamedTuple):
    """An element of an instant vector."""

    labels: Labels
    value: float


class Window(NamedTuple):
    """An element of a range vector: samples in ``(end - range, end]``."""

    labels: Labels
    times: Sequence[float]
    values: Sequence[float]


Vector = list[Sample]


@dataclass(frozen=True)
class Matrix:
    """A range vector with its bounds, which extrapolation needs. Unix seconds."""

    windows: list[Window]
    start: float
    end: float


Value = float | str | Vector | Matrix


def without_name(labels: Labels) -> Labels:
    """The labels less the metric's name: what an operation on values leaves."""
    return {key: value for key, value in labels.items() if key != "__name__"}


def signature(labels: Labels, *, on: Iterable[str] | None, ignoring: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What labels are matched or grouped by. An absent label counts as empty."""
    if on is not None:
        return tuple((name, labels.get(name, "")) for name in sorted(on))
    left_out = {"__name__", *ignoring}
    return tuple(sorted((key, value) for key, value in labels.items() if key not in left_out))
