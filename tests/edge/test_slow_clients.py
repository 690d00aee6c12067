"""Connections that take their time or send too much: each is answered if it can be, and ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from opsbus import Context, Worker

HEAD = "GET /live HTTP/1.1\r\nHost: localhost\r\n"
TIMEOUT_S = 60


class Raw:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text if isinstance(text, bytes) else text.encode("latin-1"))
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one answer."""
        async with asyncio.timeout(TIMEOUT_S):
            status = int((await self.reader.readline()).split()[1])
            length = 0
            while (line := await self.reader.readline()).strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return status, json.loads(await self.reader.readexactly(length))

    async def ended(self) -> bytes:
        """What still comes until the edge closes."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(running: Any) -> AsyncIterator[Raw]:
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def execute(running: Any, length: int) -> str:
    return (
        f"POST /api/v1/tools/demo_echo/execute HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {running.keys.token()}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )


async def test_headers_that_do_not_come(run_edge) -> None:
    async with run_edge(headers_timeout_s=2) as running:

        async def begins(begun: str) -> None:
            async with connected(running) as raw:
                await raw.send(begun)
                status, body = await raw.answer()
                assert (status, body["error"]["code"]) == (408, "invalid_request"), begun
                assert body["error"]["hint"]
                assert await raw.ended() == b""

        await asyncio.gather(*map(begins, ("G", "GET /live HTTP/1.1\r\n", HEAD, HEAD + "X-Slow: ", "\r\n")))


async def test_a_connection_that_never_speaks_ends(run_edge) -> None:
    async with run_edge(headers_timeout_s=0.3) as running, connected(running) as raw:
        assert await raw.ended() == b""


async def test_a_trickle_is_no_progress(run_edge) -> None:
    """A byte now and then does not wind the clock back: the limit is for all headers together."""
    async with run_edge(headers_timeout_s=2) as running, connected(running) as raw:
        trickle = asyncio.create_task(_trickle(raw))
        status, _ = await raw.answer()
        trickle.cancel()
        assert status == 408


async def _trickle(raw: Raw) -> None:
    await raw.send(HEAD)
    while True:
        await raw.send("X-A: b\r\n")
        await asyncio.sleep(0.05)


async def test_the_second_request_of_a_connection_is_waited_for_no_longer(run_edge) -> None:
    async with run_edge(headers_timeout_s=2) as running:

        async def begins(begun: str) -> None:
            async with connected(running) as raw:
                await raw.send(HEAD + "\r\n")
                assert (await raw.answer())[0] == 200
                await raw.send(begun)
                assert (await raw.answer())[0] == 408
                assert await raw.ended() == b""

        await asyncio.gather(*map(begins, (HEAD, "\r\n")))


@pytest.mark.parametrize("path", ["/mcp", "/api/v1/tools/x/execute", "/nothing"])
async def test_a_body_that_does_not_come(run_edge, path: str) -> None:
    """On every path, the SDK's too; where the answer does not wait for the body the connection ends all the same."""
    async with run_edge(body_timeout_s=0.4) as running, connected(running) as raw:
        await raw.send(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {running.keys.token()}\r\n"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            "Content-Length: 100\r\n\r\n{"
        )
        status, body = await raw.answer()
        assert status == (404 if path == "/nothing" else 408)
        assert body["error"]["message"]
        await raw.ended()


async def test_too_many_and_too_large_headers(run_edge) -> None:
    async with run_edge(headers_max=20, headers_bytes_max=4096) as running:
        for sent in (
            HEAD + "".join(f"X-{n}: 1\r\n" for n in range(20)) + "\r\n",
            HEAD + "X-Long: " + "a" * 5_000 + "\r\n\r\n",
            HEAD + "X-Endless: " + "a" * 50_000,
            "GET /" + "a" * 5_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /" + "a" * 50_000,
            HEAD + "X" * 50_000,
        ):
            async with connected(running) as raw:
                await raw.send(sent)
                status, body = await raw.answer()
                assert (status, body["error"]["code"]) == (431, "request_too_large"), sent[:80]
                assert body["error"]["hint"]
                assert await raw.ended() == b""
        async with connected(running) as raw:
            await raw.send(HEAD + "".join(f"X-{n}: 1\r\n" for n in range(19)) + "\r\n")
            assert (await raw.answer())[0] == 200


def demo(large: int = 0) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str = "") -> dict[str, object]:
        """Says it again."""
        return {"text": text or "x" * large}

    return worker


async def test_garbage_after_a_request_does_not_take_its_answer(run_edge, run_worker) -> None:
    async with run_edge() as running, run_worker(demo()):
        await running.knows("demo_echo")
        async with connected(running) as raw:
            body = '{"arguments": {"text": "first"}}'
            await raw.send(execute(running, len(body)) + body + "\x00garbage\r\n\r\n")
            status, answer = await raw.answer()
            assert (status, answer["structuredContent"]["text"]) == (200, "first")
            assert await raw.ended() == b""


async def test_pipelined_requests_are_answered_in_order(run_edge, run_worker) -> None:
    async with run_edge() as running, run_worker(demo()):
        await running.knows("demo_echo")
        async with connected(running) as raw:
            body = '{"arguments": {"text": "first"}}'
            await raw.send(execute(running, len(body)) + body + HEAD + "\r\n")
            assert (await raw.answer())[1]["structuredContent"]["text"] == "first"
            assert (await raw.answer())[1] == {"live": True}


async def test_a_client_that_does_not_read_is_cut_off(run_edge, run_worker) -> None:
    """It asks for much and takes nothing: the edge does not keep it, nor what it asked for."""
    async with run_edge(write_timeout_s=0.5) as running, run_worker(demo(20_000)):
        await running.knows("demo_echo")
        async with connected(running) as raw:
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            with pytest.raises(ConnectionError):
                await _ask_on(raw, (execute(running, 2) + "{}").encode())
        assert (await running.rest("GET", "/api/v1/tools")).status_code == 200


async def _ask_on(raw: Raw, request: bytes) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await raw.send(request)
            await asyncio.sleep(0.001)


async def test_connections_beyond_the_limit_are_told_to_come_back(run_edge) -> None:
    async with run_edge(connections_max=2) as running, connected(running) as one, connected(running) as two:
        for raw in (one, two):
            await raw.send(HEAD + "\r\n")
            assert (await raw.answer())[0] == 200
        async with connected(running) as third:
            await third.send(HEAD + "\r\n")
            status, body = await third.answer()
            assert (status, body["error"]["code"]) == (503, "unavailable")
            assert body["error"]["retry_after_ms"]
        await one.send(HEAD + "\r\n")
        assert (await one.answer())[0] == 200
