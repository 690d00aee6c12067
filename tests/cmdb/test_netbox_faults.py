"""A NetBox that is gone, slow, refusing, broken or lying: each is named, no half answer is taken for a whole one, and
nothing is written."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import netbox_server  # of this folder, by conftest.py
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from netbox_server import V2_TOKEN, FakeNetBox

from opsbus import ErrorCode, Executed, ToolError
from opsbus.database import open_engine
from opsbus_cmdb.netbox import client
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.commands import Source, import_from
from opsbus_cmdb.netbox.inventory import NetBoxInventory
from opsbus_cmdb.netbox.schema import Device, VirtualMachine
from opsbus_cmdb.query import AssetQuery
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import

Fault = Callable[[web.Request], Any]


@pytest.fixture
async def fake() -> AsyncIterator[FakeNetBox]:
    async with netbox_server.serving() as served:
        yield served


def answers(status: int, text: str = "", kind: str = "application/json", **headers: str) -> Fault:
    return lambda _: web.Response(status=status, text=text, content_type=kind, headers=headers)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "9999", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"count": 12, "next": null, "previous": null, "results": [')
    assert request.transport is not None
    request.transport.close()
    return response


async def devices(netbox: NetBox) -> list[Device]:
    return await netbox.all("dcim/devices", Device, [])


HTML = "<html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    ("fault", "code", "told", "hint"),
    [
        (answers(403, '{"detail": "Invalid v2 token"}'), "backend_error", "Invalid v2 token", "NETBOX_TOKEN"),
        (answers(401, '{"detail": "Token expired"}'), "backend_error", "Token expired", "NETBOX_TOKEN"),
        (
            answers(403, '{"detail": "You do not have permission to perform this action."}'),
            "backend_error", "permission", "permission to view",
        ),
        (answers(429, "", **{"Retry-After": "7"}), "backend_unavailable", "429", "shortly"),
        (answers(500, HTML, "text/html"), "backend_unavailable", "500", "own log"),
        (answers(503, HTML, "text/html"), "backend_unavailable", "503", "shortly"),
        (answers(200, HTML, "text/html"), "backend_error", "a login page", "login page"),
        (answers(302, "", Location="http://elsewhere.example/"), "backend_error", "redirects", "https"),
        (answers(404, HTML, "text/html"), "backend_error", "has no dcim/devices/", "address"),
        (answers(400, '{"limit": ["A valid integer is required."]}'), "backend_error", "valid integer", "own log"),
        (answers(200, '{"count": 1, "next": null, "results": [{"id": 0}]}'), "backend_error", "results.0", "4.x"),
        (answers(200, '{"detail": "ok"}'), "backend_error", "count", "4.x"),
        (answers(200, '{"count": 9, "next": "x", "results": []}'), "backend_error", "empty page", "4.x"),
        (cut, "backend_unavailable", "broke off", "try again"),
    ],
)  # fmt: skip
async def test_a_failure_says_which_system_and_what_to_do(
    fake: FakeNetBox, fault: Fault, code: str, told: str, hint: str
) -> None:
    fake.faults = [fault] * 3
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        with pytest.raises(ToolError) as failed:
            await devices(netbox)
        assert failed.value.code == code
        assert told in failed.value.message
        assert fake.url in failed.value.message
        assert hint in failed.value.hint
        assert V2_TOKEN not in failed.value.message
        if code == "backend_error":
            fake.faults.clear()
        assert len(await devices(netbox)) == len(fake.data["dcim/devices"])  # once it is well


@pytest.mark.parametrize("fault", [answers(503), answers(502, HTML, "text/html"), cut])
async def test_a_read_that_failed_in_passing_is_repeated(fake: FakeNetBox, fault: Fault) -> None:
    fake.page_max = 5
    fake.faults = [lambda _: None, fault, fault]  # in the middle of the list
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        found = await devices(netbox)
    assert sorted(item.id for item in found) == sorted(item["id"] for item in fake.data["dcim/devices"])


async def test_an_import_waits_as_long_as_it_is_told(fake: FakeNetBox, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.faults = [answers(429, "", **{"Retry-After": "1"})]
    async with NetBox(fake.url, V2_TOKEN, patience=6) as netbox:
        begin = time.monotonic()
        assert await devices(netbox)
        assert time.monotonic() - begin >= 1
    fake.faults = [answers(429, "", **{"Retry-After": "900"})]
    monkeypatch.setattr(client, "_WAIT_MAX_S", 0.01)
    async with NetBox(fake.url, V2_TOKEN, patience=6) as netbox:
        assert await devices(netbox)


async def test_a_filter_by_id_that_is_ignored_does_not_go_round_for_ever(fake: FakeNetBox) -> None:
    fake.page_max = 5
    fake.deaf.add("id__gt")
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        with pytest.raises(ToolError, match="though ordered by id") as lied:
            await devices(netbox)
    assert lied.value.code is ErrorCode.BACKEND_ERROR
    assert len(fake.asked) == 2


async def test_what_comes_and_goes_between_two_pages_shifts_nothing(fake: FakeNetBox) -> None:
    fake.page_max = 5
    first = min(item["id"] for item in fake.data["dcim/devices"])

    def leaves(_request: web.Request) -> None:
        fake.data["dcim/devices"] = [item for item in fake.data["dcim/devices"] if item["id"] != first]

    before = {item["id"] for item in fake.data["dcim/devices"]}
    fake.faults = [lambda _: None, leaves]
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        assert {item.id for item in await devices(netbox)} == before


async def test_slow_huge_and_gone(fake: FakeNetBox) -> None:
    held = asyncio.Event()

    async def slow(_request: web.Request) -> None:
        await held.wait()

    fake.faults = [slow]
    async with NetBox(fake.url, V2_TOKEN, timeout_s=2.0) as netbox:
        with pytest.raises(ToolError, match="did not answer in time") as late:
            await devices(netbox)
        assert late.value.code is ErrorCode.BACKEND_UNAVAILABLE
        assert len(fake.asked) == 1  # a call has no time for another try
    held.set()
    async with NetBox(fake.url, V2_TOKEN, body_bytes_max=2_000) as netbox:
        with pytest.raises(ToolError, match="more than 2,000 bytes") as large:
            await devices(netbox)
        assert large.value.code is ErrorCode.RESULT_TOO_LARGE
        with pytest.raises(ToolError, match="has more than 3 objects"):
            await _most(fake)
    async with NetBox("http://127.0.0.1:9", V2_TOKEN) as netbox:
        with pytest.raises(ToolError, match="cannot be reached"):
            await devices(netbox)


async def _most(fake: FakeNetBox) -> None:
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        await netbox.all("dcim/devices", Device, [], most=3)


async def test_a_breaker_keeps_calls_from_what_is_down_and_lets_them_in_again(fake: FakeNetBox) -> None:
    fake.faults = [answers(503)] * 50
    async with NetBoxInventory(NetBox(fake.url, V2_TOKEN)) as netbox:
        for _ in range(2):
            with pytest.raises(ToolError):
                await netbox.get_asset("dcim.device:1")
        asked = len(fake.asked)
        with pytest.raises(ToolError, match="several requests in a row failed") as shut:
            await netbox.get_asset("dcim.device:1")
        assert len(fake.asked) == asked
        assert (shut.value.executed, shut.value.code) == (Executed.NO, ErrorCode.BACKEND_UNAVAILABLE)
        fake.faults.clear()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert (await netbox.get_asset("dcim.device:1")).kind == "device"
                    break
                except ToolError:
                    await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    "fault",
    [
        answers(500, HTML, "text/html"),
        answers(200, HTML, "text/html"),
        answers(403, '{"detail": "Token expired"}'),
        cut,
    ],
)
async def test_an_import_that_fails_in_the_middle_writes_nothing(
    fake: FakeNetBox, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddedInventory(f"sqlite:///{tmp_path}/x.sqlite3")
    await store.create()
    engine = open_engine(f"sqlite:///{tmp_path}/x.sqlite3", foreign_keys=True)
    fake.faults = [*[lambda _: None] * 6, *[fault] * 3]
    with pytest.raises(ToolError):
        await import_from(engine, NetBox(fake.url, V2_TOKEN), Import("a", "b"), lambda *_: None, Source(fake.url))
    await engine.dispose()
    assert (await store.find_assets(AssetQuery(), 1, None)).total == 0
    await store.close()


def certified(folder: Path, days: int) -> tuple[ssl.SSLContext, Path]:
    """A server's context for localhost whose certificate ends in so many days, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{days}.pem", folder / f"{days}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    return context, public


@pytest.mark.parametrize(("days", "trusted", "fine"), [(2, False, False), (2, True, True), (-1, True, False)])
async def test_a_certificate_is_checked(tmp_path: Path, days: int, trusted: bool, fine: bool) -> None:
    context, public = certified(tmp_path, days)
    async with netbox_server.serving(tls=context) as secure:
        async with NetBox(secure.url, V2_TOKEN, ca_file=public if trusted else None) as netbox:
            if fine:
                assert await netbox.version() == "4.7.3"
                return
            with pytest.raises(ToolError, match="certificate that is not trusted, or has expired") as refused:
                await netbox.version()
        assert "NETBOX_CA_FILE" in refused.value.hint
        assert not secure.asked


async def test_a_file_that_holds_no_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ValueError, match="holds no certificates"):
        async with NetBox("https://netbox.example", V2_TOKEN, ca_file=tmp_path / "ca.pem"):
            pass


async def test_a_write_that_is_not_answered_is_not_told_as_undone(fake: FakeNetBox) -> None:
    async with NetBox(fake.url, V2_TOKEN) as netbox:
        for fault, executed in ((answers(500, HTML, "text/html"), None), (cut, None), (answers(503), None)):
            fake.faults = [fault]
            with pytest.raises(ToolError) as failed:
                await netbox.patch("virtualization/virtual-machines", 1, {"status": "offline"}, VirtualMachine)
            assert failed.value.executed is executed
        fake.faults = [answers(403, '{"detail": "You do not have permission to perform this action."}')]
        with pytest.raises(ToolError) as refused:
            await netbox.patch("virtualization/virtual-machines", 1, {"status": "offline"}, VirtualMachine)
        assert refused.value.executed is Executed.NO
