"""The HTTP backend against real servers: the CMDB's own face, and servers that are broken, slow, huge or closed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from opsbus import ErrorCode, Executed, ToolError
from opsbus.testing.caller import Caller
from opsbus.testing.ports import free_port
from opsbus_cmdb.app import build
from opsbus_cmdb.http_inventory import HttpInventory
from opsbus_cmdb.http_server import application
from opsbus_cmdb.model import Asset
from opsbus_cmdb.query import AssetQuery, ChangeQuery, StatusChange
from opsbus_cmdb.store import EmbeddedInventory

KEY = "test-key"
CHANGE = StatusChange(field="status", value="down", expected_version=1, reason="gone", actor="ada")


@asynccontextmanager
async def server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def failure(url: str, work: Callable[[HttpInventory], Awaitable[object]], **options: Any) -> ToolError:
    async with HttpInventory(url, KEY, **options) as remote:
        with pytest.raises(ToolError) as failed:
            await work(remote)
    assert failed.value.hint
    assert KEY not in failed.value.message
    return failed.value


async def read(remote: HttpInventory) -> object:
    return await remote.find_assets(AssetQuery(), 5, None)


async def write(remote: HttpInventory) -> object:
    return await remote.set_status("ast-1", CHANGE)


def closed_port() -> str:
    return f"http://127.0.0.1:{free_port()}"


async def test_nobody_there() -> None:
    url = closed_port()
    error = await failure(url, read)
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert url in error.message
    assert "CMDB_URL" in error.hint
    unsent = await failure(url, write)
    assert (unsent.code, unsent.executed) == (ErrorCode.BACKEND_UNAVAILABLE, Executed.NO)


async def test_too_slow_is_unavailable_for_a_read_and_unknown_for_a_write() -> None:
    released = asyncio.Event()

    async def never(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with server(never) as url:
        slow = await failure(url, read, timeout_s=0.2)
        assert slow.code is ErrorCode.BACKEND_UNAVAILABLE
        assert "in time" in slow.message
        unknown = await failure(url, write, timeout_s=2.0)
        assert unknown.code is ErrorCode.OUTCOME_UNKNOWN
        released.set()


async def test_too_large_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1_000):
            await response.write(b"x" * 65_536)
        return response

    async with server(endless) as url:
        error = await failure(url, read, body_bytes_max=200_000)
    assert error.code is ErrorCode.RESULT_TOO_LARGE


@pytest.mark.parametrize(
    ("status", "body", "read_code", "write_code", "write_executed"),
    [
        (401, "no", ErrorCode.BACKEND_ERROR, ErrorCode.BACKEND_ERROR, Executed.NO),
        (404, "<html>", ErrorCode.BACKEND_ERROR, ErrorCode.BACKEND_ERROR, Executed.NO),
        (302, "", ErrorCode.BACKEND_ERROR, ErrorCode.BACKEND_ERROR, None),
        (500, "oops", ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN, None),
        (503, "", ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.BACKEND_UNAVAILABLE, None),
        (200, "[]", ErrorCode.BACKEND_ERROR, ErrorCode.OUTCOME_UNKNOWN, None),
        (200, "not json", ErrorCode.BACKEND_ERROR, ErrorCode.OUTCOME_UNKNOWN, None),
        (
            404,
            '{"error": {"code": "not_found", "message": "no asset"}}',
            ErrorCode.NOT_FOUND,
            ErrorCode.NOT_FOUND,
            None,
        ),
        (
            400,
            '{"error": {"code": "internal", "message": "x"}}',
            ErrorCode.BACKEND_ERROR,
            ErrorCode.BACKEND_ERROR,
            None,
        ),
    ],
)
async def test_odd_answers(
    status: int, body: str, read_code: ErrorCode, write_code: ErrorCode, write_executed: Executed | None
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            status=status, text=body, headers={"Location": "http://127.0.0.1:1/"} if status == 302 else {}
        )

    async with server(answer) as url, HttpInventory(url, KEY) as remote:
        with pytest.raises(ToolError) as read_failed:
            await read(remote)
        with pytest.raises(ToolError) as write_failed:
            await write(remote)
    assert read_failed.value.code is read_code
    assert (write_failed.value.code, write_failed.value.executed) == (write_code, write_executed)


async def test_the_key_is_sent_and_only_the_right_one_is_let_in(http_url: str) -> None:
    async with HttpInventory(http_url, KEY) as right:
        assert (await right.find_assets(AssetQuery(), 1, None)).total > 20
    for key in ("wrong", ""):
        async with HttpInventory(http_url, key) as wrong:
            with pytest.raises(ToolError) as refused:
                await wrong.find_assets(AssetQuery(), 1, None)
        assert refused.value.code is ErrorCode.BACKEND_ERROR
        assert "CMDB_API_KEY" in refused.value.hint


async def test_a_path_in_the_url_is_kept() -> None:
    paths: list[str] = []

    async def note(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response({"items": [], "total": 0, "a_field_of_tomorrow": True})

    async with server(note) as url, HttpInventory(f"{url}/cmdb/", KEY) as remote:
        assert (await remote.find_changes(ChangeQuery(), 1, None)).total == 0
    assert paths == ["/cmdb/api/v1/changes"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/health", {}, 200),
        ("GET", "/api/v1/assets", {}, 401),
        ("GET", "/api/v1/assets?limit=0", {"Authorization": f"Bearer {KEY}"}, 422),
        ("GET", "/api/v1/assets?colour=red", {"Authorization": f"Bearer {KEY}"}, 422),
        ("GET", "/api/v1/assets?filter.colour=red", {"Authorization": f"Bearer {KEY}"}, 422),
        ("GET", "/api/v1/assets?limit=%C2%B2", {"Authorization": f"Bearer {KEY}"}, 422),
        ("GET", "/api/v1/topology/redis-x", {"Authorization": f"Bearer {KEY}"}, 404),
        ("GET", "/api/v1/topology/lab?depth=99", {"Authorization": f"Bearer {KEY}"}, 422),
        ("GET", "/api/v1/changes?since=2026-01-01", {"Authorization": f"Bearer {KEY}"}, 422),
        ("PATCH", "/api/v1/assets/lab", {"Authorization": f"Bearer {KEY}"}, 412),
        ("PATCH", "/api/v1/assets/lab", {"Authorization": f"Bearer {KEY}", "If-Match": '"1"'}, 422),
        ("DELETE", "/api/v1/assets/lab", {"Authorization": f"Bearer {KEY}"}, 405),
        ("GET", "/nowhere", {"Authorization": f"Bearer {KEY}"}, 404),
    ],
)
async def test_the_server_refuses_in_one_shape(
    http_url: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, http_url + path, headers=headers) as response,
    ):
        assert response.status == status
        body = await response.json()
    if status != 200:
        assert body["error"]["code"]
        assert body["error"]["message"]


def test_a_server_without_a_key_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CMDB_API_KEY"):
        application(EmbeddedInventory(f"sqlite:///{tmp_path}/x.sqlite3"), "")


async def test_the_worker_on_a_cmdb_over_http(run_worker: Any, caller: Caller, http_url: str) -> None:
    async with run_worker(build(), url=http_url, api_key=KEY):
        arguments = {"id": "service:shop/cart", "status": "degraded", "reason": "slow"}
        plan = (await caller.call("cmdb", "update_asset_status", arguments)).error.details
        done = (await caller.call("cmdb", "update_asset_status", {**arguments, "confirm": plan["confirm"]})).structured
        assert done["asset"]["version"] == 2
        assert done["source"] == f"cmdb ({http_url})"
        found = (
            await caller.call("cmdb", "query_assets", {"text": "cart", "filters": {"status": "degraded"}})
        ).structured
        assert found["items"][0]["ref"] == "service:shop/cart"
        missing = (await caller.call("cmdb", "get_service_topology", {"service": "crat"})).error
        assert missing.code is ErrorCode.NOT_FOUND
        assert "service:shop/cart" in missing.did_you_mean


async def test_a_cmdb_that_is_down_is_named_to_the_caller(run_worker: Any, caller: Caller) -> None:
    url = closed_port()
    async with run_worker(build(), url=url, api_key=KEY):
        error = (await caller.call("cmdb", "query_assets", {})).error
    assert error.code is ErrorCode.BACKEND_UNAVAILABLE
    assert error.retryable
    assert url in error.message


async def asset_or_none(remote: HttpInventory) -> Asset | None:
    try:
        return await remote.get_asset("service:shop/checkout")
    except ToolError as error:
        if error.code is not ErrorCode.BACKEND_UNAVAILABLE:
            raise
        return None


async def test_the_server_as_a_process(tmp_path: Path) -> None:
    port = closed_port().rsplit(":", 1)[1]
    environment = {
        "PATH": os.environ["PATH"], "CMDB_API_KEY": KEY, "CMDB_PORT": port, "OPSBUS_CMDB_SEED": "shop",
        "OPSBUS_CMDB_DATABASE_URL": f"sqlite:///{tmp_path}/served/cmdb.sqlite3",
    }  # fmt: skip
    command = (sys.executable, "-m", "opsbus_cmdb.http_server")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60), HttpInventory(f"http://127.0.0.1:{port}", KEY) as remote:
            while (found := await asset_or_none(remote)) is None:
                await asyncio.sleep(0.05)
        assert found.owner_team == "checkout"
    finally:
        process.terminate()
        await process.wait()


async def test_the_process_without_a_key_says_so(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "opsbus_cmdb.http_server")
    environment = {"PATH": os.environ["PATH"], "OPSBUS_CMDB_DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    _, told = await process.communicate()
    assert process.returncode == 1
    assert told.decode().strip() == "cmdb: the CMDB's API needs a key: set CMDB_API_KEY"
