"""Times, regular expressions, patterns, cursors, refusals: the small parts, mostly in their invalid space."""

import json
from datetime import UTC, datetime

import pytest

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.autoscaling import pods_needed, selects
from opsbus_k8s_ops.faults import Attempt, refused, unreachable
from opsbus_k8s_ops.logmodels import LogLine
from opsbus_k8s_ops.logstream import sortable
from opsbus_k8s_ops.models import Counts, PodList, PodRow
from opsbus_k8s_ops.paging import decode, encode, fit_page, query_digest
from opsbus_k8s_ops.patterns import PATTERNS_MAX, cluster_lines, read_line
from opsbus_k8s_ops.regexes import compile_regex
from opsbus_k8s_ops.tool_scale import target_replicas

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("pattern", ["(", "(?=x)", r"(a)\1", "a{2000}{2000}", "[z-a]"])
def test_a_wrong_regex_is_refused_with_the_syntax(pattern: str) -> None:
    with pytest.raises(ToolError) as refusal:
        compile_regex(pattern, "include")
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS
    assert "RE2" in refusal.value.hint


def test_a_catastrophic_regex_is_harmless() -> None:
    assert compile_regex("(a+)+$", "include").search("a" * 200_000 + "b") is None


def _line(second: int, text: str, pod: str = "a") -> LogLine:
    return LogLine(time=f"2026-08-01T12:00:{second:02d}Z", pod=pod, container="c", text=text)


def test_lines_that_differ_in_numbers_are_one_pattern() -> None:
    lines = [
        _line(1, "GET /cart/17 took 12.5 ms"),
        _line(2, "ERROR order 7f9c24e5-1f2b-4c57-9f43-0f7e1f6a2b3c at 10.0.3.4:8080 failed", "b"),
        _line(3, "GET /cart/99 took 3 ms", "b"),
        _line(4, "ERROR order 11111111-2222-4333-8444-555555555555 at 10.0.3.9 failed"),
    ]
    patterns, beyond = cluster_lines(lines)
    assert beyond == 0
    assert [(p.count, p.level, p.pod_count) for p in patterns] == [(2, "error", 2), (2, "info", 2)]
    assert patterns[0].pattern == "ERROR order <uuid> at <ip> failed"
    assert patterns[0].example == lines[1].text
    assert (patterns[1].first, patterns[1].last) == (lines[0].time, lines[2].time)


def test_patterns_are_bounded() -> None:
    patterns, beyond = cluster_lines(_line(0, "word" + chr(97 + i % 26) * (i + 1)) for i in range(PATTERNS_MAX + 30))
    assert (len(patterns), beyond) == (PATTERNS_MAX, 30)


def test_what_varies_is_replaced_and_words_stay() -> None:
    assert read_line("feedbeef cafe decade added") == ("feedbeef cafe decade added", "info")
    assert read_line("commit 4e1243bd22c66e76c2ba9eddc1f91394e57f9f83")[0] == "commit <id>"
    assert (
        read_line("order ord_8c15645aaa paid")[0] == read_line("order ord_c05a17f2b1 paid")[0] == "order ord_<id> paid"
    )


def test_a_structured_line_is_told_by_its_constant_fields() -> None:
    line = (
        '{"ts":"2026-08-01T12:00:00.1Z","level":"warn","msg":"took 12ms","order":"ord_8c15645aaa","error":"none","n":3}'
    )
    assert read_line(line) == ("level=warn msg=took <n>ms order=ord_<id> error=none", "warning")
    assert read_line('{"level":"info","msg":"error budget left"}')[1] == "info"
    assert read_line('{"broken": ')[0] == '{"broken": '
    assert read_line("{}") == ("", "info")


def test_times_compare_as_text() -> None:
    times = ["2026-08-01T12:00:00Z", "2026-08-01T12:00:00.1Z", "2026-08-01T12:00:00.12Z", "2026-08-01T12:00:00.2Z"]
    assert sorted(times, key=sortable) == times


def _rows(count: int, size: int = 10) -> list[tuple[tuple[int, str, str], PodRow]]:
    return [
        ((0, "ns", f"p{i:04d}"), PodRow(namespace="ns", name=f"p{i:04d}", healthy=True, reason="x" * size))
        for i in range(count)
    ]


def _page(rows: list[tuple[tuple[int, str, str], PodRow]], limit: int, cursor: str | None = None) -> PodList:
    extra = {"cluster": "lab", "counts": Counts(total=len(rows)), "groups": []}
    return fit_page(
        PodList,
        rows,
        limit=limit,
        cursor=cursor,
        digest="d",
        total=len(rows),
        extra=extra,
        warnings=[],
        source="s",
        as_of=NOW,
    )


def test_pages_by_limit_reach_every_row_once() -> None:
    rows, cursor, seen = _rows(25), None, []
    while True:
        page = _page(rows, 10, cursor)
        seen += [row.name for row in page.items]
        assert page.page.total == 25
        cursor = page.page.next_cursor
        assert page.page.truncated is (cursor is not None)
        if cursor is None:
            break
    assert seen == [row.name for _, row in rows]


def test_pages_by_budget_reach_every_row_once() -> None:
    rows, cursor, seen, pages = _rows(60, size=1000), None, [], 0
    while True:
        page = _page(rows, 500, cursor)
        assert len(page.model_dump_json()) < 24_000
        seen += [row.name for row in page.items]
        cursor, pages = page.page.next_cursor, pages + 1
        if cursor is None:
            break
        assert page.warnings
    assert seen == [row.name for _, row in rows]
    assert pages > 2


def test_a_row_larger_than_the_budget_is_an_error_not_an_endless_loop() -> None:
    with pytest.raises(ToolError) as refusal:
        _page(_rows(1, size=30_000), 10)
    assert refusal.value.code is ErrorCode.RESULT_TOO_LARGE


@pytest.mark.parametrize("cursor", ["", "x", "%%%", encode((1, "a", "b"), "other"), "W10", "bnVsbA", "WyJkIiwgImEiXQ"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ToolError) as refusal:
        decode(cursor, "d")
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS


def test_a_cursor_is_bound_to_its_filters() -> None:
    assert query_digest(a=1, b=None) != query_digest(a=1, b="x")
    assert decode(encode((3, "ns", "p"), "d"), "d") == (3, "ns", "p")


def _status(code: int, **more: object) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": "the server's words", **more}).encode()


@pytest.mark.parametrize(
    ("http", "code"),
    [
        (400, ErrorCode.INVALID_ARGUMENTS),
        (401, ErrorCode.BACKEND_ERROR),
        (403, ErrorCode.FORBIDDEN),
        (404, ErrorCode.NOT_FOUND),
        (409, ErrorCode.CONFLICT),
        (422, ErrorCode.INVALID_ARGUMENTS),
        (429, ErrorCode.BACKEND_UNAVAILABLE),
        (500, ErrorCode.BACKEND_ERROR),
        (503, ErrorCode.BACKEND_UNAVAILABLE),
        (418, ErrorCode.BACKEND_ERROR),
    ],
)
def test_refusals_name_the_cluster(http: int, code: ErrorCode) -> None:
    error = refused(http, _status(http), Attempt("lab", "list pods", "user ann (groups opsbus:viewer)"), "3")
    assert error.code is code
    assert "lab" in error.message
    assert error.hint
    assert error.details["http_status"] == http


def test_a_forbidden_call_says_whom_the_cluster_saw() -> None:
    assert "user ann" in refused(403, _status(403), Attempt("lab", "x", "user ann")).hint
    assert refused(429, _status(429), Attempt("lab", "x"), "3").retry_after_ms == 3000


def test_causes_and_a_proxys_page_are_understood() -> None:
    details = {"causes": [{"field": "spec.replicas", "message": "must be non-negative"}]}
    error = refused(422, _status(422, details=details), Attempt("lab", "scale"))
    assert error.details["causes"] == [{"field": "spec.replicas", "message": "must be non-negative"}]
    assert "Bad Gateway" in refused(502, b"<html>Bad Gateway" + b"x" * 5000, Attempt("lab", "x")).message
    assert len(refused(502, b"y" * 50_000, Attempt("lab", "x")).message) < 1000


def test_silence_and_refusal_are_told_apart() -> None:
    assert "in time" in unreachable(TimeoutError(), Attempt("lab", "x")).message
    assert "cannot be reached" in unreachable(ConnectionRefusedError("no"), Attempt("lab", "x")).message


def test_target_replicas() -> None:
    assert target_replicas(3, 5, None, 10) == 5
    assert target_replicas(3, None, -3, 10) == 0
    for before, replicas, delta in [(3, None, None), (3, 1, 1), (3, None, -4), (3, 11, None)]:
        with pytest.raises(ToolError) as refusal:
            target_replicas(before, replicas, delta, 10)
        assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS


def test_selectors_and_budgets() -> None:
    pod = {"app": "checkout", "tier": "web"}
    assert selects({"matchLabels": {"app": "checkout"}}, pod)
    assert not selects({"matchLabels": {"app": "cart"}}, pod)
    assert selects({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]}, pod)
    assert not selects({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, pod)
    assert not selects({"matchExpressions": [{"key": "tier", "operator": "Unheard"}]}, pod)
    assert selects({}, pod)
    assert not selects(None, pod)
    assert pods_needed({"spec": {"minAvailable": "50%"}}, 5) == 3
    assert pods_needed({"spec": {"minAvailable": 4}}, 2) == 4
    assert pods_needed({"spec": {"maxUnavailable": 1}}, 3) == 2
    assert pods_needed({"spec": {"maxUnavailable": "100%"}}, 3) == 0
