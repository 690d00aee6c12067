"""A backend that is slow, down, half-broken or lying: each failure has a name, a message and a hint."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from opsbus.guard import TRIES
from opsbus.testing.ports import free_port
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.backend import BODY_BYTES_MAX, Backend, BackendError
from opsbus_monitoring.grafana import Grafana
from opsbus_monitoring.prometheus import Prometheus

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def backend(url: str, **given: Any) -> Backend:
    return Backend("Prometheus", url, setting="PROMETHEUS_URL", retry_after_s=0.01, **given)


async def failure(call: Awaitable[Any]) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await call
    return caught.value


def answering(
    status: int, body: str, kind: str = "application/json"
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=kind)

    return handler


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "retryable", "words"),
    [
        (
            200,
            "<html>login</html>",
            "text/html",
            "unavailable",
            True,
            "text/html; charset=utf-8 where JSON is expected",
        ),
        (200, '{"status": "succ', "application/json", "unavailable", True, "where JSON is expected"),
        (302, "", "text/plain", "unavailable", False, "redirects elsewhere"),
        (401, "{}", "application/json", "unauthorized", False, "refuses us (HTTP 401)"),
        (403, '{"message": "no right"}', "application/json", "unauthorized", False, "no right"),
        (400, '{"status": "error", "error": "parse error"}', "application/json", "bad_request", False, "parse error"),
        (404, '"gone"', "application/json", "not_found", False, "gone"),
        (412, '{"message": "changed by someone else"}', "application/json", "conflict", False, "someone else"),
        (429, "slow down", "text/plain", "unavailable", True, "slow down"),
        (500, "boom", "text/plain", "error", False, "failed (HTTP 500)"),
        (503, "", "text/plain", "unavailable", True, "HTTP 503"),
    ],
)
async def test_each_bad_answer_is_named(
    serve: Serve, status: int, body: str, kind: str, code: str, retryable: bool, words: str
) -> None:
    under_test = backend(await serve(answering(status, body, kind)))
    error = await failure(under_test.write("GET", "/"))
    await under_test.close()
    assert (error.code, error.retryable) == (code, retryable)
    assert words in error.message


async def test_a_silent_backend_is_given_up(serve: Serve) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    under_test = backend(await serve(silent), timeout_s=0.2)
    error = await failure(under_test.write("GET", "/"))
    await under_test.close()
    assert error.code == "unavailable"
    assert "did not answer within 0.2 s" in error.message
    assert "PROMETHEUS_URL" in error.hint


async def test_a_body_that_breaks_off(serve: Serve) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b'{"status":')
        assert request.transport is not None
        request.transport.close()
        return answer

    under_test = backend(await serve(half))
    error = await failure(under_test.write("GET", "/"))
    await under_test.close()
    assert "broke off" in error.message


async def test_a_body_without_end_is_cut(serve: Serve) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(BODY_BYTES_MAX // 1_000_000 + 2):
            await answer.write(b" " * 1_000_000)
        return answer

    under_test = backend(await serve(endless))
    error = await failure(under_test.write("GET", "/"))
    await under_test.close()
    assert error.code == "too_large"


async def test_nobody_listens() -> None:
    under_test = backend(f"http://127.0.0.1:{free_port()}")
    error = await failure(under_test.get("/"))
    await under_test.close()
    assert (error.code, error.retryable) == ("unavailable", True)
    assert "cannot be reached" in error.message


async def test_reads_are_tried_again_and_writes_are_not(serve: Serve) -> None:
    seen: list[str] = []

    async def flaky(request: web.Request) -> web.Response:
        seen.append(request.method)
        return web.json_response({"n": len(seen)}, status=200 if len(seen) >= TRIES else 503)

    under_test = backend(await serve(flaky))
    assert await under_test.get("/") == {"n": TRIES}
    seen.clear()
    await failure(under_test.write("POST", "/", {}))
    await under_test.close()
    assert seen == ["POST"]


async def test_the_token_travels_and_is_in_no_message(serve: Serve) -> None:
    bearers: list[str | None] = []

    async def refuses(request: web.Request) -> web.Response:
        bearers.append(request.headers.get("Authorization"))
        return web.Response(status=401)

    under_test = backend(await serve(refuses), token="s3cret-canary")
    error = await failure(under_test.get("/"))
    await under_test.close()
    assert bearers == ["Bearer s3cret-canary"]
    assert "s3cret-canary" not in f"{error.message}{error.hint}{error!r}"


async def test_json_of_another_shape(serve: Serve) -> None:
    url = await serve(answering(200, "[]"))
    prometheus = Prometheus(url)
    assert "another shape" in (await failure(prometheus.query("up"))).message
    await prometheus.close()
    alertmanager = Alertmanager(await serve(answering(200, "{}")))
    assert "another shape" in (await failure(alertmanager.alerts())).message
    await alertmanager.close()


async def test_a_missing_dashboard_is_none(serve: Serve) -> None:
    grafana = Grafana(await serve(answering(404, '{"message": "Dashboard not found"}')))
    assert await grafana.dashboard("none") is None
    await grafana.close()
