"""More requests than the edge can take: who is refused, how, and who is not.

The edge and its load share a process here, so an edge that begins one request in a turn stands for one at its end.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import generate_latest

from opsbus import Context, Worker
from opsbus.testing.plugin import RunWorker
from opsbus_edge.asgi import admission, rawhead
from opsbus_edge.asgi.admission import Admission
from opsbus_edge.gates.load import ServiceLoad
from opsbus_edge.metrics import Metrics

LONG_S = 60


class Asked:
    """A request that waits."""

    def __init__(self, gate: Admission, whose: str) -> None:
        self.waits, self.since, self.became = False, 0.0, ""
        gate.wait(self, None, whose)

    def begin(self) -> None:
        self.waits, self.became = False, "begun"

    def give_up(self) -> None:
        self.waits = False

    def refuse(self) -> None:
        self.became = "refused"


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def count(asked: list[Asked], became: str) -> int:
    return sum(one.became == became for one in asked)


async def test_in_a_turn_so_many_begin_and_no_more() -> None:
    gate = Admission(10_000, LONG_S, Metrics())
    assert [gate.enters() for _ in range(admission.TURN + 3)] == [True] * admission.TURN + [False] * 3
    waiting = [Asked(gate, "ada") for _ in range(3 * admission.TURN)]
    assert not gate.enters(), "nobody passes those who wait"
    await turns(2)
    assert 0 < count(waiting, "begun") <= 2 * admission.TURN
    await turns(8)
    assert count(waiting, "begun") == len(waiting)
    assert gate.waiting == 0
    assert gate.enters()


async def test_callers_take_turns_and_the_longest_queue_makes_room() -> None:
    metrics = Metrics()
    gate = Admission(200, LONG_S, metrics)
    flood = [Asked(gate, "flood") for _ in range(300)]
    few = [Asked(gate, name) for name in ("ada", "bob", "eve") for _ in range(5)]
    assert gate.waiting == 200
    await turns(3)
    assert count(few, "begun") == 15, "behind a hundred of another's"
    await turns(20)
    assert count(flood, "begun") == 185
    assert count(flood, "refused") == 115
    assert flood[0].became == "begun", "who came first is served"
    text = generate_latest(metrics.registry).decode()
    assert 'opsbus_edge_shed_total{why="full"} 100.0' in text
    assert 'opsbus_edge_shed_total{why="share"} 15.0' in text


async def test_with_equal_queues_the_newcomer_is_refused() -> None:
    gate = Admission(4, LONG_S, Metrics())
    first = [Asked(gate, name) for name in ("a", "b", "c", "d")]
    last = Asked(gate, "e")
    await turns(8)
    assert count(first, "begun") == 4
    assert last.became == "refused"


async def test_in_an_overload_who_waited_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "TURN", 1)
    for most, became in ((5, ["begun", "", "begun", "begun", "begun"]), (4, ["begun", "", "refused", "refused"])):
        gate = Admission(most, 0.02, Metrics())
        asked = [Asked(gate, "ada") for _ in range(5)]
        asked[1].waits = False
        await turns(1)
        time.sleep(0.05)  # noqa: ASYNC251 - the edge is busy
        async with asyncio.timeout(30):
            while gate.waiting or count(asked, "begun") + count(asked, "refused") < 4:
                await asyncio.sleep(0.001)
        assert [one.became for one in asked][:most] == became


async def test_refusals_take_turns_too_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "REFUSED_WITHIN_S", LONG_S)
    gate = Admission(1, LONG_S, Metrics())
    asked = [Asked(gate, "ada") for _ in range(5 * admission.TURN)]
    await turns(2)
    assert 0 < count(asked, "refused") <= 2 * admission.TURN
    monkeypatch.setattr(admission, "REFUSED_WITHIN_S", 0.05)
    time.sleep(0.1)  # noqa: ASYNC251
    await turns(2)
    assert count(asked, "refused") == len(asked) - 1


async def test_a_credential_counts_as_its_caller_once_it_has_proved_one() -> None:
    gate = Admission(100, LONG_S, Metrics())
    gate.proved({"authorization": "Bearer one"}, "ada")
    gate.proved({"x-api-key": "two"}, "ada")
    begun: list[str] = []

    class Named(Asked):
        def __init__(self, name: str, credential: str | None) -> None:
            self.name, self.waits, self.since, self.became = name, False, 0.0, ""
            gate.wait(self, None if credential is None else hash(credential), "10.0.0.1")

        def begin(self) -> None:
            begun.append(self.name)

    for name, credential in (("a1", "Bearer one"), ("a2", "two"), ("s1", "Bearer x"), ("s2", "Bearer y"), ("s3", None)):
        Named(name, credential)
    await turns(3)
    assert begun == ["a1", "s1", "a2", "s2", "s3"], "whoever invents credentials is one stranger"


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 3", 3),
        (b"POST /mcp HTTP/1.1\r\nHost: a\r\ncontent-length:30 ", 30),
        (b"GET /api HTTP/1.1\r\nHost: a", 0),
        (b"POST /mcp HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4", None),
        (b"POST /mcp HTTP/1.1\r\nContent-Length: +3", None),
        (b"POST /mcp HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", None),
        (b"POST /mcp HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3", None),
        (b"POST /mcp HTTP/1.1\r\nConnection:  close\r\nContent-Length: 0", None),
        (b"POST /mcp HTTP/1.0\r\nContent-Length: 0", None),
        (b"", None),
    ],
)
def test_where_a_refused_request_ends(head: bytes, length: int | None) -> None:
    assert rawhead.length(head + b"\r\n\r\n") == length
    assert rawhead.length(head) is None


def test_the_credential_is_found_without_parsing() -> None:
    head = b"POST /mcp HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n{}"
    assert rawhead.credential(head % b"Authorization:  Bearer a.b.c ") == "Bearer a.b.c"
    assert rawhead.credential(head % b"authorization: Bearer a") == "Bearer a"
    assert rawhead.credential(head % b"X-API-Key: opsbus_1_2") == "opsbus_1_2"
    assert rawhead.credential(head % b"Accept: */*") is None
    assert rawhead.credential(b"Authorization: Bear") is None
    assert rawhead.is_probe(b"GET /ready HTTP/1.1\r\n")
    assert not rawhead.is_probe(b"GET /readymade HTTP/1.1\r\n")


class _Places:
    def places(self, service: str) -> int:
        return 15


def test_one_caller_does_not_take_all_of_a_service() -> None:
    load = ServiceLoad(_Places(), 2.0, Metrics())  # type: ignore[arg-type]
    taken = sum(load.enter("k8s", "flood") is None for _ in range(100))
    assert taken == 20, "two thirds"
    refused = load.enter("k8s", "flood")
    assert refused is not None
    assert refused.retry_after_ms
    others = [load.enter("k8s", f"caller {number}") is None for number in range(12)]
    assert others == [True] * 10 + [False] * 2
    load.leave("k8s", "flood")
    assert load.enter("k8s", "late") is None


# over HTTP


def demo() -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> str:
        return "seen"

    return worker


class Raw:
    """A connection that says what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, JSON."""
        async with asyncio.timeout(60):
            status = int((await self.reader.readline()).split()[1])
            headers = {}
            while line := (await self.reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = await self.reader.readexactly(int(headers["content-length"]))
            return status, headers, json.loads(body) if headers["content-type"] == "application/json" else body

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], Any]:
        """Send pieces and read an answer."""
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.01)
            self.writer.write(piece)
        return await self.answer()


@asynccontextmanager
async def connected(running: Any) -> AsyncIterator[Raw]:
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def rest(running: Any, sub: str = "flood@shop.example", *more: str) -> bytes:
    lines = [
        "POST /api/v1/tools/demo_look/execute HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {running.keys.token(sub=sub, iat=1_700_000_000, exp=4_000_000_000)}",
        "Content-Type: application/json",
        "Content-Length: 2",
        *more,
    ]
    return "\r\n".join([*lines, "", "{}"]).encode()


@pytest.fixture
def at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge that begins one request in a turn."""
    monkeypatch.setattr(admission, "TURN", 1)


@asynccontextmanager
async def flooded(running: Any, connections: int = 30) -> AsyncIterator[dict[int, int]]:
    """While the block runs one caller's connections ask, and ask again at once; answers by status."""
    statuses: dict[int, int] = {}
    request = rest(running)

    async def insist() -> None:
        async with connected(running) as raw:
            while True:
                status, _, _ = await raw.ask(request)
                statuses[status] = statuses.get(status, 0) + 1

    tasks = [asyncio.create_task(insist()) for _ in range(connections)]
    try:
        async with asyncio.timeout(60):
            while statuses.get(503, 0) < 20 and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
        yield statuses
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()][:1]
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


Edge = Callable[..., Any]


@pytest.mark.usefixtures("at_its_end")
async def test_a_flood_is_refused_others_are_served_and_probes_answered(
    run_edge: Edge, run_worker: RunWorker, audit_events: Callable[..., Awaitable[list[dict[str, Any]]]]
) -> None:
    async with run_edge(requests_waiting_max=8, drain_timeout_s=30) as running, run_worker(demo()):
        await running.knows("demo_look")
        assert (await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})).status_code == 200
        slowest = 0.0
        async with flooded(running) as statuses:
            for _ in range(5):
                began = time.perf_counter()
                answer = await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})
                slowest = max(slowest, time.perf_counter() - began)
                assert answer.status_code == 200, "another caller is served"
            for path in ("/live", "/ready", "/health", "/metrics"):
                assert (await running.http.get(path)).status_code == 200
            assert 'opsbus_edge_shed_total{why="' in (await running.http.get("/metrics")).text
            assert statuses.get(200, 0) > 0, "the flood itself gets what is left"
        assert set(statuses) == {200, 503}
        assert slowest < 30
        began = time.perf_counter()
        assert (await running.rest("POST", "/api/v1/tools/demo_look/execute", json={})).status_code == 200
        assert time.perf_counter() - began < 30, "it is as before"
    served = [event for event in await audit_events() if event["stage"] == "completed"]
    assert len(served) >= statuses[200] + 7, "what was answered is in the record"
    assert "shop.example" in served[0]["actor"]


@pytest.mark.usefixtures("at_its_end")
async def test_what_who_is_refused_is_told(run_edge: Edge, run_worker: RunWorker) -> None:
    """In the form of the face that was asked; the connection goes on where the request's end is sure."""
    async with run_edge(requests_waiting_max=1) as running, run_worker(demo()):
        await running.knows("demo_look")
        whole = rest(running, "ada@shop.example")
        mcp = whole.replace(b"/api/v1/tools/demo_look/execute", b"/mcp")
        async with flooded(running):
            status, headers, body = await _refused(running, mcp)
            assert (status, headers["retry-after"]) == (503, "1")
            assert "connection" not in headers
            assert (body["jsonrpc"], body["id"]) == ("2.0", None)
            data = body["error"]["data"]
            assert (data["code"], data["executed"], data["retryable"]) == ("unavailable", "no", True)
            assert "Retry-After" in data["hint"]
            status, headers, body = await _refused(running, whole)
            assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "unavailable")
            status, headers, _ = await _refused(running, whole.replace(b"Host:", b"Connection: close\r\nHost:"))
            assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")


async def _refused(running: Any, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Ask by two connections of a caller at once, whole or in pieces, until one is refused."""
    head, _, body = request.partition(b"\r\n\r\n")
    async with asyncio.timeout(60):
        while True:
            async with connected(running) as one, connected(running) as two, connected(running) as three:
                found = await asyncio.gather(
                    one.ask(request), two.ask(head + b"\r\n\r\n", body), three.ask(head + b"\r\n\r\n" + body)
                )
                for raw, (status, headers, answer) in zip((one, two, three), found, strict=True):
                    if status != 503:
                        continue
                    if "connection" not in headers:
                        # The rest of the refused request is not taken for the next one.
                        assert (await raw.ask(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 200
                    return status, headers, answer


@pytest.mark.usefixtures("at_its_end")
async def test_who_does_not_wait_for_an_answer_is_cut_off_and_nothing_is_mixed_up(
    run_edge: Edge, run_worker: RunWorker
) -> None:
    async with run_edge(requests_waiting_max=1) as running, run_worker(demo()):
        await running.knows("demo_look")
        request = rest(running, "ada@shop.example")
        async with flooded(running, 20):
            for _ in range(5):
                async with connected(running) as raw:
                    raw.writer.write(request * 3)
                    answers = b""
                    async with asyncio.timeout(60):
                        while b" 503 " not in answers and answers.count(b'"isError":false') < 3:
                            piece = await raw.reader.read(65_536)
                            if not piece:
                                break
                            answers += piece
                    refused = answers.count(b"HTTP/1.1 503")
                    assert refused <= 1
                    if refused:
                        assert b"connection: close" in answers


async def test_an_edge_that_ends_tells_those_who_wait(run_edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, wait = asyncio.Event(), Admission.wait

    def waiting(*given: Any) -> None:
        wait(*given)
        waits.set()

    async with run_edge() as running:
        monkeypatch.setattr(Admission, "wait", waiting)
        monkeypatch.setattr(Admission, "_begin", lambda self, now: 0)  # the edge gets to nothing
        monkeypatch.setattr(Admission, "enters", lambda self: False)
        reader, writer = await asyncio.open_connection(*running.url.removeprefix("http://").split(":"))
        asked = asyncio.create_task(Raw(reader, writer).ask(rest(running)))
        await asyncio.wait_for(waits.wait(), 30)
        assert not asked.done()
    status, headers, _ = await asked
    assert (status, headers["connection"]) == (503, "close")
    writer.close()
