"""The tools about dashboards before a Grafana that is slow, half-broken or lying: what is told is true."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts import ErrorCode
from opsbus_monitoring.app import build

Through = Callable[[], Awaitable[web.Response]]
Fault = Callable[[web.Request, Through], Awaitable[web.StreamResponse | None]]
CHANGE = {"uid": "shop-red", "reason": "watch the rollback", "panels": [{"title": "p99", "unit": "ms"}]}


class Proxy:
    """The estate's Grafana with a fault in front: None from the fault lets the request through."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.fault: Fault | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def through() -> web.Response:
            kind = {"Content-Type": request.headers["Content-Type"]} if body else {}
            url = self.upstream + request.path_qs
            async with (
                aiohttp.ClientSession() as session,
                session.request(request.method, url, data=body or None, headers=kind) as answer,
            ):
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

        spoilt = await self.fault(request, through) if self.fault else None
        return spoilt if spoilt is not None else await through()


@pytest.fixture
def proxy(estate: Any) -> Proxy:
    return Proxy(estate.grafana)


@pytest.fixture
async def ask(estate: Any, proxy: Proxy, run_worker: RunWorker, caller: Caller) -> AsyncIterator[Any]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()

    async def call(tool: str, **arguments: Any) -> Any:
        return await caller.call("monitoring", tool, arguments)

    where = {"grafana_url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    async with run_worker(build(), **(estate.settings | where)):
        yield call
    await runner.cleanup()


async def unit_of_p99(estate: Any, http: aiohttp.ClientSession) -> Any:
    async with http.get(f"{estate.grafana}/api/dashboards/uid/shop-red") as answer:
        document = (await answer.json())["dashboard"]
    return document["panels"][2]["fieldConfig"]["defaults"]["unit"]


async def confirm_under(ask: Any, proxy: Proxy, fault: Fault) -> Any:
    token = (await ask("patch_dashboard", **CHANGE)).error.details["confirm"]
    proxy.fault = fault
    return await ask("patch_dashboard", **CHANGE, confirm=token)


async def test_a_write_whose_answer_is_lost_is_looked_after(
    ask: Any, proxy: Proxy, estate: Any, http: aiohttp.ClientSession
) -> None:
    async def lose(request: web.Request, through: Through) -> web.StreamResponse | None:
        if request.method != "POST":
            return None
        await through()
        return web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")

    found = (await confirm_under(ask, proxy, lose)).structured
    assert (found["outcome"], found["verified"], found["version"]) == ("updated", True, 2)
    assert any("was not answered" in warning for warning in found["warnings"])
    assert await unit_of_p99(estate, http) == "ms"


async def test_a_write_that_did_not_happen_and_is_not_refused_is_unknown(
    ask: Any, proxy: Proxy, estate: Any, http: aiohttp.ClientSession
) -> None:
    async def fail(request: web.Request, through: Through) -> web.StreamResponse | None:
        return web.json_response({"message": "database is locked"}, status=500) if request.method == "POST" else None

    reply = await confirm_under(ask, proxy, fail)
    assert reply.error.code is ErrorCode.OUTCOME_UNKNOWN
    assert reply.executed == "unknown"
    assert "Grafana" in reply.error.message
    assert await unit_of_p99(estate, http) == "s"


async def test_a_refused_write_did_not_happen(ask: Any, proxy: Proxy) -> None:
    async def refuse(request: web.Request, through: Through) -> web.StreamResponse | None:
        words = {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        return web.json_response(words, status=412) if request.method == "POST" else None

    reply = await confirm_under(ask, proxy, refuse)
    assert (reply.error.code, reply.executed) == (ErrorCode.CONFLICT, "no")


async def test_a_grafana_that_says_yes_and_does_nothing_is_not_believed(ask: Any, proxy: Proxy) -> None:
    async def lie(request: web.Request, through: Through) -> web.StreamResponse | None:
        return web.json_response({"version": 2, "status": "success"}) if request.method == "POST" else None

    found = (await confirm_under(ask, proxy, lie)).structured
    assert found["verified"] is False
    assert any("is not as it was sent" in warning for warning in found["warnings"])


@pytest.mark.parametrize("body", ["<html>sign in</html>", '{"dashboard": []}', "[]", '{"dashboard": {"ti'])
@pytest.mark.parametrize("tool", ["get_dashboard_summary", "patch_dashboard"])
async def test_answers_that_are_no_dashboard_are_told_as_that(ask: Any, proxy: Proxy, body: str, tool: str) -> None:
    async def spoil(request: web.Request, through: Through) -> web.StreamResponse | None:
        kind = "text/html" if body.startswith("<") else "application/json"
        return web.Response(text=body, content_type=kind) if "/dashboards/uid/" in request.path else None

    proxy.fault = spoil
    arguments = CHANGE if tool == "patch_dashboard" else {"dashboard": "shop-red"}
    error = (await ask(tool, **arguments)).error
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert "Grafana" in error.message
    assert error.hint
