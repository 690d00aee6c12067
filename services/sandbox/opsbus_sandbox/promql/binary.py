"""Binary operators: arithmetic, comparison and sets, with vector matching."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.promql.errors import PromqlError
from opsbus_sandbox.promql.values import Sample, Vector, signature, without_name


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and math.fmod(b, 2) else math.inf
    except ValueError:  # zero to a negative power, or the root of a negative number
        if a:
            return math.nan
        return math.copysign(math.inf, a) if abs(math.fmod(b, 2)) == 1 else math.inf


ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": lambda a, b: math.fmod(a, b) if b and math.isfinite(a) else math.nan,
    "^": _power,
    "atan2": math.atan2,
}
COMPARISON: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Matching:
    """How the sides are paired."""

    on: list[str] | None = None
    ignoring: tuple[str, ...] = ()
    group: str = ""
    """``left`` or ``right``: the side with many; empty: one to one."""
    include: tuple[str, ...] = ()
    return_bool: bool = False

    def key(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """What a sample is paired by."""
        return signature(sample.labels, on=self.on, ignoring=self.ignoring)


def combine(op: str, left: Any, right: Any, matching: Matching) -> Any:
    """``left op right`` for evaluated sides, scalar or vector."""
    if op in ("and", "or", "unless"):
        return _set(op, left, right, matching)
    if isinstance(left, float) and isinstance(right, float):
        return _scalar(op, left, right)
    if isinstance(left, float):
        return _by_scalar(op, right, lambda v: (left, v), matching)
    if isinstance(right, float):
        return _by_scalar(op, left, lambda v: (v, right), matching)
    return _vectors(op, left, right, matching)


def _scalar(op: str, a: float, b: float) -> float:
    return ARITHMETIC[op](a, b) if op in ARITHMETIC else float(COMPARISON[op](a, b))


def _by_scalar(op: str, vector: Vector, sides: Callable[[float], tuple[float, float]], matching: Matching) -> Vector:
    out: Vector = []
    for labels, value in vector:
        a, b = sides(value)
        if op in ARITHMETIC:
            out.append(Sample(without_name(labels), ARITHMETIC[op](a, b)))
        elif matching.return_bool:
            out.append(Sample(without_name(labels), float(COMPARISON[op](a, b))))
        elif COMPARISON[op](a, b):
            out.append(Sample(labels, value))
    return out


def _vectors(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    many, one = (right, left) if matching.group == "right" else (left, right)
    single: dict[tuple[tuple[str, str], ...], Sample] = {}
    for sample in one:
        key = matching.key(sample)
        if key in single:
            side = "left" if matching.group == "right" else "right"
            raise PromqlError(
                f"found duplicate series for the match group {dict(key)} on the {side} hand-side of the operation: "
                f"many-to-many matching not allowed: matching labels must be unique on one side"
            )
        single[key] = sample
    seen: set[tuple[tuple[str, str], ...]] = set()
    out: Vector = []
    for sample in many:
        key = matching.key(sample)
        other = single.get(key)
        if other is None:
            continue
        a, b = (other.value, sample.value) if matching.group == "right" else (sample.value, other.value)
        kept = op in ARITHMETIC or matching.return_bool or COMPARISON[op](a, b)
        if not kept:
            continue
        labels = _result_labels(op, sample, other, matching)
        marker = tuple(sorted(labels.items()))
        if marker in seen:
            hint = "grouping labels must ensure unique matches" if matching.group else "use group_left or group_right"
            raise PromqlError(f"multiple matches for labels: {hint}")
        seen.add(marker)
        if op in ARITHMETIC or matching.return_bool:
            out.append(Sample(labels, _scalar(op, a, b)))
        else:
            out.append(Sample(labels, a))
    return out


def _result_labels(op: str, sample: Sample, other: Sample, matching: Matching) -> dict[str, str]:
    labels = dict(sample.labels) if op in COMPARISON and not matching.return_bool else without_name(sample.labels)
    if not matching.group:
        if matching.on is not None:
            labels = {k: v for k, v in labels.items() if k in matching.on}
        else:
            labels = {k: v for k, v in labels.items() if k not in matching.ignoring}
    for name in matching.include:
        if value := other.labels.get(name, ""):
            labels[name] = value
        else:
            labels.pop(name, None)
    return labels


def _set(op: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    theirs: dict[tuple[tuple[str, str], ...], bool] = defaultdict(bool)
    for sample in right:
        theirs[matching.key(sample)] = True
    if op == "and":
        return [s for s in left if matching.key(s) in theirs]
    if op == "unless":
        return [s for s in left if matching.key(s) not in theirs]
    ours = {matching.key(s) for s in left}
    return [*left, *(s for s in right if matching.key(s) not in ours)]
