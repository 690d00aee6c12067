"""Reading PromQL: the selectors in an expression and the ranges around them. Prometheus alone decides what is valid."""

from dataclasses import dataclass
from typing import Any

import promql_parser as ast

_OPS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


@dataclass(frozen=True)
class LabelMatch:
    """``code=~"5.."``"""

    name: str
    op: str
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op}"{escaped}"'


@dataclass(frozen=True)
class Selector:
    """``http_requests_total{code=~"5.."}``, with the range it is read over, if any. Seconds."""

    metric: str
    matches: tuple[LabelMatch, ...]
    range_s: float | None = None

    def text(self, matches: tuple[LabelMatch, ...] | None = None) -> str:
        """The selector with these matchers, default: its own."""
        chosen = self.matches if matches is None else matches
        inside = ",".join(str(match) for match in chosen)
        return f"{self.metric}{{{inside}}}" if inside or not self.metric else self.metric


def parse(expr: str) -> Any | None:
    """The tree; None when our parser does not know the expression, which says nothing about Prometheus."""
    try:
        return ast.parse(expr)
    except (ValueError, RecursionError):
        return None


def selectors_of(tree: Any) -> list[Selector]:
    """Every selector of a tree, each once."""
    found: list[Selector] = []
    _collect(tree, found, 0)
    return list(dict.fromkeys(found))


def _collect(node: Any, found: list[Selector], depth: int) -> None:
    if node is None or depth > 100:
        return
    if isinstance(node, ast.MatrixSelector):
        found.append(_selector(node.vector_selector, node.range.total_seconds()))
        return
    if isinstance(node, ast.VectorSelector):
        found.append(_selector(node, None))
        return
    for child in _children(node):
        _collect(child, found, depth + 1)


def _children(node: Any) -> list[Any]:
    if isinstance(node, ast.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, ast.Call):
        return list(node.args)
    if isinstance(node, ast.AggregateExpr):
        return [node.expr, node.param]
    return [getattr(node, "expr", None)]


def _selector(node: Any, range_s: float | None) -> Selector:
    metric = node.name or ""
    matches = []
    for matcher in node.matchers.matchers:
        op = _OPS.get(str(matcher.op), "=")
        if matcher.name == "__name__" and op == "=":
            metric = metric or matcher.value
        else:
            matches.append(LabelMatch(matcher.name, op, matcher.value))
    return Selector(metric, tuple(sorted(matches, key=str)), range_s)


def sides(tree: Any) -> tuple[str, str, str] | None:
    """Left, operator and right of a binary expression at the top; None for any other."""
    while isinstance(tree, ast.ParenExpr):
        tree = tree.expr
    if not isinstance(tree, ast.BinaryExpr):
        return None
    return tree.lhs.prettify(), str(tree.op), tree.rhs.prettify()


def is_scalar(expr: str) -> bool:
    """Whether an expression is a plain number."""
    tree = parse(expr)
    while isinstance(tree, ast.ParenExpr | ast.UnaryExpr):
        tree = tree.expr
    return isinstance(tree, ast.NumberLiteral)
