"""Whatever comes in over HTTP: an answer in time, no 5xx without a cause, no traceback, and the edge still works."""

import asyncio
import json
import string
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from opsbus import Context, Worker
from opsbus.testing.plugin import RunWorker

EXAMPLES = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
CAUSED = {501, 502, 503, 504}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
keys = st.sampled_from(
    ["jsonrpc", "id", "method", "params", "name", "arguments", "_meta", "cursor", "inputResponses", "requestState", "x"]
)
methods = st.sampled_from(
    ["tools/call", "tools/list", "resources/read", "prompts/get", "server/discover", "initialize", "ping", "", "x"]
)
header_text = st.text(string.printable.strip() + " ", max_size=20).map(str.strip)


def modern(params: dict[str, Any], request_id: Any, method: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {"_meta": meta, **params}}


nearly = st.builds(
    modern,
    st.dictionaries(keys.filter(lambda key: key != "_meta"), values | st.just("demo_echo"), max_size=4),
    st.integers() | st.text(max_size=5) | values,
    methods | values,
)
mutated_meta = st.builds(
    lambda body, meta: {**body, "params": {**body["params"], "_meta": meta}},
    nearly,
    values | st.dictionaries(st.sampled_from(["progressToken", "io.modelcontextprotocol/logLevel", "x"]), values),
)
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(keys, values, max_size=6).map(lambda value: json.dumps(value).encode()),
    (nearly | mutated_meta).map(lambda value: json.dumps(value).encode()),
)
headers_ = st.fixed_dictionaries(
    {},
    optional={
        "mcp-protocol-version": st.sampled_from(["2026-07-28", "2025-11-25", "1999-01-01", ""]) | header_text,
        "mcp-method": methods | header_text,
        "mcp-name": st.just("demo_echo") | header_text,
        "mcp-session-id": header_text,
        "accept": st.sampled_from(["application/json, text/event-stream", "application/json", "*/*", ""]) | header_text,
        "content-type": st.sampled_from(["application/json", "text/plain"]) | header_text,
        "mcp-param-x": header_text,
        "last-event-id": header_text,
        "traceparent": header_text,
        "idempotency-key": header_text,
    },
)


@pytest.fixture
async def served(run_edge, run_worker: RunWorker) -> AsyncIterator[Any]:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str = "") -> dict[str, str]:
        return {"text": text}

    async with run_edge(calls_per_caller=1_000) as running, run_worker(worker):
        await running.knows("demo_echo")
        yield running


class Wire:
    """One connection, raw: what a client library would refuse to send is sent."""

    def __init__(self, running: Any) -> None:
        host, port = running.url.removeprefix("http://").split(":")
        self.host, self.port, self.token = host, int(port), running.keys.token()

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            given_ = {"host": "localhost", "authorization": f"Bearer {self.token}", **headers}
            given_ |= {"content-length": str(len(body)), "connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in given_.items())
            writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + body)
            status = b""
            answer = b""
            async with asyncio.timeout(60):
                status = await reader.readline()
                # Streams of older eras stay open: a look is enough.
                if not status.startswith(b"HTTP/1.1 200") or method != "GET":
                    answer = await reader.read(200_000)
            return int(status.split()[1]), answer
        finally:
            writer.close()


def check(status: int, answer: bytes, *, sent: Any) -> None:
    assert status < 500 or status in CAUSED, (status, answer, sent)
    for word in (b"Traceback", b"Error(", b'File "', b"opsbus_edge", b"pydantic"):
        assert word not in answer, (word, answer, sent)


def _in_thread(test: Any) -> Any:
    """hypothesis is synchronous; the edge lives in this loop."""
    return asyncio.to_thread(test)


async def test_mcp_takes_anything(served) -> None:
    wire, loop = Wire(served), asyncio.get_running_loop()

    @EXAMPLES
    @given(headers=headers_, body=bodies)
    @example(headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}, body=b"[" * 100_000)
    @example(headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}, body=b"\x00")
    def test(headers: dict[str, str], body: bytes) -> None:
        sent = asyncio.run_coroutine_threadsafe(wire.send("POST", "/mcp", headers, body), loop)
        check(*sent.result(90), sent=(headers, body))

    await _in_thread(test)
    assert (await served.call("demo_echo", {"text": "alive"})).result["isError"] is False


async def test_the_lane_takes_any_envelope(served) -> None:
    """Headers always fit the body, so that the request gets as far as it can."""
    wire, loop = Wire(served), asyncio.get_running_loop()

    @EXAMPLES
    @given(body=nearly | mutated_meta)
    def test(body: dict[str, Any]) -> None:
        params = body["params"] if isinstance(body["params"], dict) else {}
        headers = {
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": str(body["method"]),
            "mcp-name": str(params.get("name", "")),
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        headers = {name: value.encode("ascii", "ignore").decode() for name, value in headers.items()}
        headers = {name: "".join(c for c in value if c.isprintable()) for name, value in headers.items()}
        sent = asyncio.run_coroutine_threadsafe(wire.send("POST", "/mcp", headers, json.dumps(body).encode()), loop)
        check(*sent.result(90), sent=body)

    await _in_thread(test)
    assert (await served.call("demo_echo", {"text": "alive"})).result["isError"] is False


async def test_rest_takes_anything(served) -> None:
    wire, loop = Wire(served), asyncio.get_running_loop()
    paths = st.sampled_from(
        [
            "/api/v1/tools", "/api/v1/tools/demo_echo/execute", "/api/v1/mcp/tools/execute", "/api/v1/resources/read",
            "/api/v1/tools/%00/execute", "/api/v1/tools/" + "x" * 500 + "/execute", "/api/v1/",
            "/openapi.json", "/health",
        ]
    )  # fmt: skip
    query = st.text(string.ascii_letters + string.digits + "%&=+_-./", max_size=40)
    verbs = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
    rest_keys = st.sampled_from(["arguments", "name", "tool", "timeout_s", "x"])
    rest_bodies = st.dictionaries(rest_keys, values | st.just("demo_echo"), max_size=4)

    @EXAMPLES
    @given(verb=verbs, path=paths, query=query, body=rest_bodies.map(lambda v: json.dumps(v).encode()) | bodies)
    def test(verb: str, path: str, query: str, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        target = f"{path}?{query}" if query else path
        sent = asyncio.run_coroutine_threadsafe(wire.send(verb, target, headers, body), loop)
        check(*sent.result(90), sent=(verb, target, body))

    await _in_thread(test)
    assert (await served.call("demo_echo", {"text": "alive"})).result["isError"] is False
