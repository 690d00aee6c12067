"""Three edges behind a proxy that sends each request to the next one: nothing fails, in either era."""

import asyncio
import itertools
import os
import random
import time
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

CALLS = int(os.environ.get("OPSBUS_TEST_ROUND_ROBIN_CALLS", "10000"))
CLIENTS = 24
"""At once: a third of them with sessions."""
CAN = {"elicitation": {}}
YES = {"confirm": {"action": "accept", "content": {"ok": True}}}
TEXT = "This is a simple text response for testing."

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class RoundRobin:
    """A proxy without any stickiness: each HTTP request goes to the next edge."""

    def __init__(self, urls):
        self._next = itertools.cycle(urls)
        self.sent = Counter()

    async def __aenter__(self):
        self._client = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/mcp", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/mcp"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()
        await self._client.close()

    async def _pass_on(self, request):
        url = next(self._next)
        self.sent[url] += 1
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self._client.request(request.method, url, headers=headers, data=await request.read()) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


async def modern(client, url, counted, todo):
    """Tools, lists and rounds of questions, each request to another edge."""
    while next(todo, None) is not None:
        kind = random.choices(("call", "list", "read", "rounds"), (6, 2, 1, 1))[0]
        if kind == "call":
            result = await answer_of(client, url, "tools/call", {"name": "test_simple_text", "arguments": {}})
            assert result["content"][0]["text"] == TEXT
        elif kind == "list":
            method, field = random.choice((("tools/list", "tools"), ("prompts/list", "prompts")))
            assert len((await answer_of(client, url, method, {}))[field]) >= 5
        elif kind == "read":
            result = await answer_of(client, url, "resources/read", {"uri": "test://static-text"})
            assert result["contents"][0]["uri"] == "test://static-text"
        else:
            params = {"name": "test_input_required_result_request_state", "arguments": {}}
            result = await answer_of(client, url, "tools/call", params)
            assert result["resultType"] == "input_required"
            params |= {"inputResponses": YES, "requestState": result["requestState"]}
            result = await answer_of(client, url, "tools/call", params)
            assert result["content"][0]["text"] == "state-ok"
            next(todo, None)
            counted[kind] += 1
        counted[kind] += 1


async def answer_of(client, url, method, params):
    response = await client.modern(url, method, params, CAN)
    assert response.status_code == 200, f"{response.status_code} {response.text}"
    return response.json()["result"]


async def sessions(client, url, counted, todo, read_events):
    """Sessions that live for a while, each of their requests to another edge."""
    for number in itertools.count(1):
        session = await client.initialize(url)
        counted["session"] += 1
        for step in range(50):
            if next(todo, None) is None:
                return
            if step % 5 == 4:
                message = {"jsonrpc": "2.0", "id": f"{number}-{step}", "method": "tools/list"}
                response = await client.post(url, session, message)
                assert response.status_code == 200, f"{response.status_code} {response.text}"
                assert len(read_events(response.text)[-1]["result"]["tools"]) >= 5
                counted["session list"] += 1
            else:
                answer = await client.call(url, session, "test_simple_text", f"{number}-{step}")
                assert answer["result"]["content"][0]["text"] == TEXT
                counted["session call"] += 1
        ended = await client.http.delete(url, headers=client.session_headers(session))
        assert ended.status_code == 200


async def test_nothing_fails_behind_a_round_robin_proxy(spawn_edge, fixtures, raw, read_events, capsys):
    counted, todo = Counter(), iter(range(CALLS))
    async with spawn_edge() as one, spawn_edge() as two, spawn_edge() as three:
        urls = [edge.mcp_url for edge in (one, two, three)]
        async with RoundRobin(urls) as proxy:
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    client = raw(f"user-{number}")
                    if number % 3 == 0:
                        group.create_task(sessions(client, proxy.url, counted, todo, read_events))
                    else:
                        group.create_task(modern(client, proxy.url, counted, todo))
            took = time.perf_counter() - began
            assert max(proxy.sent.values()) - min(proxy.sent.values()) <= 1
    with capsys.disabled():
        print(f"\nthree edges, {CALLS} calls in {took:.1f} s, none failed: {dict(sorted(counted.items()))}")
    assert sum(counted.values()) - counted["session"] >= CALLS
    assert all(counted[kind] for kind in ("call", "list", "read", "rounds", "session call", "session list"))
