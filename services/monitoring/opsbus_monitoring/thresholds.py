"""Lines that a value should not cross: out of the expression itself, and out of the alerting rules about it."""

from dataclasses import dataclass
from typing import Any

from opsbus_monitoring.expressions import is_scalar, parse, sides

LINES_MAX = 6
_ORDERS = (">", ">=", "<", "<=")
_TURNED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@dataclass(frozen=True)
class Threshold:
    """A value, the side that is wrong (``>`` above it, ``<`` below, empty: neither), and who says so."""

    value: float
    op: str = ""
    label: str = ""


def split_comparison(expr: str) -> tuple[str, Threshold] | None:
    """``x > 5`` as what is measured and the line it is compared with; None for any other expression."""
    tree = parse(expr)
    parts = sides(tree) if tree is not None else None
    if parts is None or parts[1] not in _ORDERS:
        return None
    left, op, right = parts
    if is_scalar(right):
        return left, Threshold(_number(right), op)
    if is_scalar(left):
        return right, Threshold(_number(left), _TURNED[op])
    return None


def from_rules(expr: str, rules: list[dict[str, Any]]) -> list[Threshold]:
    """Thresholds of alerting rules that measure what the expression measures."""
    own = split_comparison(expr)
    wanted = _normal(own[0] if own else expr)
    found = []
    for rule in rules:
        compared = split_comparison(str(rule.get("query", "")))
        if wanted and compared and _normal(compared[0]) == wanted:
            found.append(Threshold(compared[1].value, compared[1].op, str(rule.get("name", ""))))
    return found


def merged(*groups: list[Threshold]) -> list[Threshold]:
    """Each value once, the first who names it; at most LINES_MAX."""
    seen: dict[float, Threshold] = {}
    for group in groups:
        for line in group:
            seen.setdefault(line.value, line)
    return sorted(list(seen.values())[:LINES_MAX], key=lambda line: line.value)


def _normal(expr: str) -> str:
    tree = parse(expr)
    return "".join(tree.prettify().split()) if tree is not None else ""


def _number(text: str) -> float:
    return float(text.replace(" ", "").strip("()"))
