"""The tools about silences before an Alertmanager that is slow, down, half-broken or lying: what is told is true."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build

SILENCE = {
    "matchers": ['alertname="CheckoutHighErrorRate"'],
    "duration": "1h",
    "reason": "a rollback is under way",
}
TIMEOUT_S, PATIENT_S = 2.0, 30.0

Fault = Callable[[web.Request, Callable[[], Awaitable[web.Response]]], Awaitable[web.StreamResponse | None]]


class Proxy:
    """The estate's Alertmanager with a fault in front: None from the fault lets the request through."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.fault: Fault | None = None
        self.seen: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.method)
        body = await request.read()

        async def through() -> web.Response:
            kind = {"Content-Type": request.headers["Content-Type"]} if body else {}
            async with (
                aiohttp.ClientSession() as session,
                session.request(
                    request.method, self.upstream + request.path_qs, data=body or None, headers=kind
                ) as answer,
            ):
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

        spoilt = await self.fault(request, through) if self.fault else None
        return spoilt if spoilt is not None else await through()


@pytest.fixture
async def proxy(estate: Any, http: aiohttp.ClientSession) -> AsyncIterator[Proxy]:
    made = Proxy(estate.alertmanager)
    yield made
    async with http.get(f"{estate.alertmanager}/api/v2/silences") as answer:
        for silence in await answer.json():
            if silence["status"]["state"] != "expired":
                await (await http.delete(f"{estate.alertmanager}/api/v2/silence/{silence['id']}")).release()


@pytest.fixture
async def ask(
    request: pytest.FixtureRequest, estate: Any, proxy: Proxy, run_worker: RunWorker, caller: Caller
) -> AsyncIterator[Any]:
    timeout_s = TIMEOUT_S if "[silent]" in request.node.name else PATIENT_S
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    where = {"alertmanager_url": f"http://127.0.0.1:{runner.addresses[0][1]}", "request_timeout_s": timeout_s}

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    async with run_worker(build(), **(estate.settings | where)):
        yield call
    await runner.cleanup()


def answering(status: int, body: str, kind: str = "application/json", *, only: str = "") -> Fault:
    async def fault(request: web.Request, through: Any) -> web.StreamResponse | None:
        if only and request.method != only:
            return None
        return web.Response(status=status, text=body, content_type=kind)

    return fault


async def breaking_off(request: web.Request, through: Any) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await answer.prepare(request)
    await answer.write(b'[{"id":')
    assert request.transport is not None
    request.transport.close()
    return answer


async def silent(request: web.Request, through: Any) -> web.StreamResponse:
    await asyncio.sleep(TIMEOUT_S * 20)
    return web.Response()


FAULTS = {
    "429": (answering(429, "slow down", "text/plain"), "HTTP 429"),
    "503": (answering(503, "", "text/plain"), "HTTP 503"),
    "500": (answering(500, "boom", "text/plain"), "HTTP 500"),
    "HTML": (answering(200, "<html>login</html>", "text/html"), "where JSON is expected"),
    "truncated": (answering(200, '[{"id": "1", "stat'), "where JSON is expected"),
    "broken off": (breaking_off, "broke off"),
    "silent": (silent, "did not answer"),
    "an object": (answering(200, "{}"), "another shape"),
    "a list of numbers": (answering(200, "[1]"), "another shape"),
    "an object without its fields": (answering(200, '[{"id": "a", "status": {}}]'), "another shape"),
}


@pytest.mark.parametrize("name", list(FAULTS))
async def test_reads_say_which_system_and_what_to_do(ask: Any, proxy: Proxy, name: str) -> None:
    proxy.fault, words = FAULTS[name]
    tools = ("list_silences", "create_silence", "expire_silence")
    ending = {"silence_id": "0123-4567", "reason": "it is over"}
    replies = await asyncio.gather(ask(tools[0]), ask(tools[1], **SILENCE), ask(tools[2], **ending))
    for tool, reply in zip(tools, replies, strict=True):
        assert reply.error.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.BACKEND_ERROR), tool
        assert "Alertmanager" in reply.error.message, tool
        assert words in reply.error.message, tool
        assert reply.error.hint, tool
        assert reply.executed == "no", tool
    assert set(proxy.seen) == {"GET"}, "nothing was written"


async def confirmable(ask: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {**arguments, "confirm": (await ask(tool, **arguments)).error.details["confirm"]}


@pytest.mark.parametrize("name", ["503", "500", "429"])
async def test_a_write_that_is_refused_is_not_repeated(ask: Any, proxy: Proxy, name: str) -> None:
    given = await confirmable(ask, "create_silence", SILENCE)
    proxy.seen.clear()
    proxy.fault = answering(int(name), "no", "text/plain", only="POST")
    reply = await ask("create_silence", **given)
    assert reply.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert reply.executed == "unknown"
    assert "monitoring_list_silences" in reply.error.hint
    assert proxy.seen.count("POST") == 1


async def test_a_refusal_in_alertmanagers_words(ask: Any, proxy: Proxy) -> None:
    given = await confirmable(ask, "create_silence", SILENCE)
    proxy.fault = answering(400, json.dumps("silence invalid: no"), only="POST")
    reply = await ask("create_silence", **given)
    assert (reply.error.code, reply.executed) == (ErrorCode.INVALID_ARGUMENTS, "no")
    assert "silence invalid: no" in reply.error.message


async def test_a_write_that_happened_unheard_is_found(ask: Any, proxy: Proxy, estate: Any) -> None:
    async def swallowed(request: web.Request, through: Any) -> web.StreamResponse | None:
        if request.method == "GET":
            return None
        await through()
        return web.Response(status=502, text="bad gateway")

    given = await confirmable(ask, "create_silence", SILENCE)
    proxy.fault = swallowed
    made = (await ask("create_silence", **given)).structured
    assert (made["outcome"], made["verified"]) == ("created", True)
    assert any("but the silence is there" in warning for warning in made["warnings"])
    proxy.fault = None
    ending = {"silence_id": made["silence"]["id"], "reason": "it is over"}
    given = await confirmable(ask, "expire_silence", ending)
    proxy.fault = swallowed
    ended = (await ask("expire_silence", **given)).structured
    assert (ended["outcome"], ended["verified"]) == ("expired", True)
    assert any("but the silence has ended" in warning for warning in ended["warnings"])


async def test_an_end_that_is_not_answered_is_unknown(ask: Any, proxy: Proxy) -> None:
    given = await confirmable(ask, "create_silence", SILENCE)
    made = (await ask("create_silence", **given)).structured
    given = await confirmable(ask, "expire_silence", {"silence_id": made["silence"]["id"], "reason": "it is over"})
    proxy.fault = answering(503, "", only="DELETE")
    reply = await ask("expire_silence", **given)
    assert (reply.error.code, reply.executed) == (ErrorCode.OUTCOME_UNKNOWN, "unknown")


async def test_a_look_that_fails_is_a_warning(ask: Any, proxy: Proxy) -> None:
    given = await confirmable(ask, "create_silence", SILENCE)
    written = False

    async def blind(request: web.Request, through: Any) -> web.StreamResponse | None:
        nonlocal written
        if request.method == "POST":
            written = True
            return None
        return web.Response(status=503) if written else None

    proxy.fault = blind
    made = (await ask("create_silence", **given)).structured
    assert (made["outcome"], made["verified"]) == ("created", False)
    assert "looking at it failed" in " ".join(made["warnings"])
    assert made["undo"]["arguments"]["silence_id"]


async def test_the_other_tools_are_unharmed(ask: Any, proxy: Proxy) -> None:
    proxy.fault = answering(503, "")
    assert (await ask("list_silences")).error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert (await ask("query_metrics", expr="up", start="now")).structured["items"]
