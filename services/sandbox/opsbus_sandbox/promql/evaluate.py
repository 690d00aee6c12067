"""The evaluator: an expression and a moment give a value; a range gives series of points."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, TypeVar, cast

import promql_parser as ast

from opsbus_sandbox.promql import functions, ranges
from opsbus_sandbox.promql.aggregate import AGGREGATIONS, aggregate
from opsbus_sandbox.promql.binary import Matching, combine
from opsbus_sandbox.promql.database import Database, Labels, Matcher, Series, matcher
from opsbus_sandbox.promql.errors import BadQueryError, PromqlError, UnsupportedError
from opsbus_sandbox.promql.values import Matrix, Sample, Value, Vector, Window, without_name

T = TypeVar("T", bound=Value)

LOOKBACK_S = 300.0
POINTS_MAX = 11_000
SUPPORTED = ", ".join(sorted({*functions.SUPPORTED, *ranges.RANGE_FUNCTIONS, "absent", "absent_over_time"}))

_OPS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def parse(text: str) -> Any:
    """The expression's tree.

    Raises:
        BadQueryError: it is no PromQL.
    """
    try:
        return ast.parse(text)
    except ValueError as error:
        raise BadQueryError(f'invalid parameter "query": parse error: {error}') from None


class Evaluation:
    """One query over a database; selected series are kept between the steps of a range."""

    def __init__(self, database: Database, start: float, end: float, step_s: float = 60.0) -> None:
        self.database, self.start, self.end, self.step_s = database, start, end, step_s
        self._selected: dict[int, list[Series]] = {}
        self._matchers: dict[int, list[Matcher]] = {}
        self._kept: list[Any] = []

    def at(self, node: Any, when: float) -> Value:
        """The value of a node at a moment."""
        match node:
            case ast.NumberLiteral():
                return float(node.val)
            case ast.StringLiteral():
                return str(node.val)
            case ast.ParenExpr():
                return self.at(node.expr, when)
            case ast.UnaryExpr():
                return self._negated(self.at(node.expr, when))
            case ast.VectorSelector():
                return self._instant(node, when)
            case ast.MatrixSelector():
                return self._range(node, when)
            case ast.SubqueryExpr():
                return self._subquery(node, when)
            case ast.Call():
                return self._call(node, when)
            case ast.AggregateExpr():
                return self._aggregate(node, when)
            case ast.BinaryExpr():
                left, right = self.at(node.lhs, when), self.at(node.rhs, when)
                return _checked(cast(Value, combine(str(node.op), left, right, _matching(node.modifier))))
        raise UnsupportedError(type(node).__name__, "selectors, functions, aggregations, operators, subqueries")

    def _negated(self, value: Value) -> Value:
        if isinstance(value, float):
            return -value
        if isinstance(value, list):
            return [Sample(without_name(s.labels), -s.value) for s in value]
        raise BadQueryError("unary minus wants a number or an instant vector")

    def _series(self, node: Any, key: int) -> list[Series]:
        found = self._selected.get(key)
        if found is None:
            self._kept.append(node)  # keeps the id of the node its own
            found = self._selected[key] = self.database.select(selector_matchers(node), -math.inf, math.inf)
        return found

    def _moment(self, node: Any, when: float) -> float:
        if node.at is not None:
            kind = str(node.at.type).rsplit(".", 1)[-1]
            when = {"Start": self.start, "End": self.end}.get(kind, node.at.at.timestamp() if kind == "At" else when)
        return when - (node.offset.total_seconds() if node.offset else 0.0)

    def _instant(self, node: Any, when: float) -> Vector:
        moment = self._moment(node, when)
        out: Vector = []
        for series in self._series(node, id(node)):
            value = series.at(moment, LOOKBACK_S)
            if value is not None:
                out.append(Sample(series.labels, value))
        return out

    def _range(self, node: Any, when: float) -> Matrix:
        selector = node.vector_selector
        moment = self._moment(selector, when)
        start = moment - node.range.total_seconds()
        windows = [
            Window(series.labels, times, values)
            for series in self._series(selector, id(node))
            for times, values in [series.window(start, moment)]
            if values
        ]
        return Matrix(windows, start, moment)

    def _subquery(self, node: Any, when: float) -> Matrix:
        moment = self._moment(node, when)
        start = moment - node.range.total_seconds()
        step = node.step.total_seconds() if node.step else self.step_s
        if node.range.total_seconds() / step > POINTS_MAX:
            raise BadQueryError(f"the subquery has more than {POINTS_MAX} points; widen its step")
        collected: dict[tuple[tuple[str, str], ...], tuple[list[float], list[float]]] = {}
        tick = math.floor(start / step) * step + step
        while tick <= moment:
            for labels, value in as_vector(self.at(node.expr, tick)):
                times, values = collected.setdefault(tuple(sorted(labels.items())), ([], []))
                times.append(tick)
                values.append(value)
            tick += step
        return Matrix([Window(dict(key), *points) for key, points in collected.items()], start, moment)

    def _call(self, node: Any, when: float) -> Value:
        name = str(node.func.name)
        if name in ("absent", "absent_over_time"):
            return self._absent(node.args[0], when)
        if name == "timestamp":
            return self._timestamps(node.args[0], when)
        if name in ranges.RANGE_FUNCTIONS:
            return self._over_range(name, node.args, when)
        if name not in functions.SUPPORTED:
            raise UnsupportedError(f"the function {name}()", SUPPORTED)
        return _checked(cast(Value, functions.call(name, [self.at(arg, when) for arg in node.args], when)))

    def _over_range(self, name: str, nodes: list[Any], when: float) -> Vector:
        values = [self.at(node, when) for node in nodes]
        matrix = next(value for value in values if isinstance(value, Matrix))
        number = next((value for value in values if isinstance(value, float)), None)
        out: Vector = []
        for window in matrix.windows:
            value = ranges.apply(name, matrix, window, when, number)
            if value is not None:
                labels = window.labels if name == "last_over_time" else without_name(window.labels)
                out.append(Sample(labels, value))
        return _checked(out)

    def _absent(self, node: Any, when: float) -> Vector:
        value = self.at(node, when)
        present = bool(value.windows) if isinstance(value, Matrix) else bool(value)
        if present:
            return []
        inner = node.vector_selector if isinstance(node, ast.MatrixSelector) else node
        labels: Labels = {}
        if isinstance(inner, ast.VectorSelector):
            matchers = [m for m in selector_matchers(inner) if m.name != "__name__"]
            times_named = Counter(m.name for m in matchers)
            labels = {m.name: m.value for m in matchers if m.op == "=" and times_named[m.name] == 1}
        return [Sample(labels, 1.0)]

    def _timestamps(self, node: Any, when: float) -> Vector:
        if not isinstance(node, ast.VectorSelector):
            return [Sample(without_name(s.labels), when) for s in as_vector(self.at(node, when))]
        moment = self._moment(node, when)
        out: Vector = []
        for series in self._series(node, id(node)):
            times, _ = series.window(moment - LOOKBACK_S, moment)
            if times and series.at(moment, LOOKBACK_S) is not None:
                out.append(Sample(without_name(series.labels), times[-1]))
        return out

    def _aggregate(self, node: Any, when: float) -> Vector:
        op = str(node.op)
        if op not in AGGREGATIONS:
            raise UnsupportedError(f"the aggregation {op}", ", ".join(AGGREGATIONS))
        parameter = self.at(node.param, when) if node.param is not None else None
        by: list[str] | None = []
        without: list[str] = []
        if node.modifier is not None:
            if str(node.modifier.type).endswith("By"):
                by = list(node.modifier.labels)
            else:
                by, without = None, list(node.modifier.labels)
        vector = as_vector(self.at(node.expr, when))
        number = parameter if isinstance(parameter, float | str) else None
        return aggregate(op, vector, by=by, without=without, parameter=number)


def selector_matchers(node: Any) -> list[Matcher]:
    """The matchers of a selector, its name among them."""
    if node.matchers.or_matchers:
        raise UnsupportedError("'or' between matchers", "=, !=, =~ and !~, separated by commas")
    found = [matcher("__name__", "=", node.name)] if node.name else []
    try:
        found += [matcher(m.name, _OPS[str(m.op)], m.value) for m in node.matchers.matchers]
    except re.error as error:
        raise BadQueryError(f"invalid regular expression: {error}") from None
    return found


def as_vector(value: Value) -> Vector:
    """An instant vector of a vector or a scalar."""
    if isinstance(value, float):
        return [Sample({}, value)]
    if isinstance(value, list):
        return value
    raise BadQueryError("a range vector or string stands where an instant vector is wanted")


def _checked(value: T) -> T:
    if isinstance(value, list) and len({tuple(sorted(s.labels.items())) for s in value}) < len(value):
        raise PromqlError("vector cannot contain metrics with the same labelset")
    return value


def _matching(modifier: Any) -> Matching:
    if modifier is None:
        return Matching()
    on: list[str] | None = None
    ignoring: tuple[str, ...] = ()
    if modifier.matching is not None:
        if str(modifier.matching.type).endswith("Include"):
            on = list(modifier.matching.labels)
        else:
            ignoring = tuple(modifier.matching.labels)
    fill = modifier.fill_values
    if fill is not None and (fill.lhs is not None or fill.rhs is not None):
        raise UnsupportedError("the modifier fill()", "on, ignoring, group_left, group_right, bool")
    group = {"ManyToOne": "left", "OneToMany": "right"}.get(str(modifier.card).rsplit(".", 1)[-1], "")
    return Matching(on, ignoring, group, tuple(modifier.group_labels or ()), bool(modifier.return_bool))


def query(database: Database, text: str, when: float) -> Value:
    """An instant query.

    Raises:
        PromqlError: with Prometheus' error type in ``kind``.
    """
    return Evaluation(database, when, when).at(parse(text), float(when))


def query_range(
    database: Database, text: str, start: float, end: float, step_s: float
) -> list[tuple[Labels, list[tuple[float, float]]]]:
    """A range query: series with their points.

    Raises:
        PromqlError: with Prometheus' error type in ``kind``.
    """
    if step_s <= 0:
        raise BadQueryError('invalid parameter "step": zero or negative query resolution step widths are not accepted.')
    if end < start:
        raise BadQueryError('invalid parameter "end": end timestamp must not be before start time')
    if (end - start) / step_s > POINTS_MAX:
        raise BadQueryError(
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    tree = parse(text)
    evaluation = Evaluation(database, start, end, step_s)
    collected: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for index in range(int((end - start) / step_s) + 1):
        when = start + index * step_s
        value = evaluation.at(tree, when)
        if isinstance(value, str | Matrix):
            raise BadQueryError(
                'invalid parameter "query": invalid expression type for range query, must be Scalar or instant Vector'
            )
        for labels, number in as_vector(value):
            collected.setdefault(tuple(sorted(labels.items())), []).append((when, number))
    return [(dict(key), points) for key, points in sorted(collected.items())]
