"""TLS to NATS, against real servers: with it, with client certificates, without it, and with somebody in between."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from opsbus import Context, Worker, nats_client
from opsbus.cli import app
from opsbus.nats_client import ConnectError
from opsbus.settings import Settings, SettingsError
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus.testing.certificates import Authority, Pair
from opsbus.testing.running import running
from opsbus.testing.tls_bus import TlsBus


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    bus = TlsBus(tmp_path_factory.mktemp("tls-bus"))
    bus.start()
    yield bus
    bus.stop()


@pytest.fixture
async def tls_bus(tls_server: TlsBus) -> AsyncIterator[TlsBus]:
    await tls_server.reset()
    yield tls_server
    await tls_server.close()


async def refused(settings: Settings) -> str:
    """Why there is no connection: in one line, and at once."""
    with pytest.raises(ConnectError) as caught:
        async with asyncio.timeout(30):
            await nats_client.connect(settings, "edge")
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_worker_and_its_caller_meet_over_mutual_tls(tls_bus: TlsBus) -> None:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def greet(ctx: Context) -> dict[str, str]:
        """Greets."""
        return {"hello": ctx.identity.sub}

    async with running(tls_bus, worker, **tls_bus.files()):
        nc = await tls_bus.connect("edge")
        caller = Caller(nc, tls_bus.signer, tls_bus.errors)
        await caller.start()
        reply = await caller.call("demo", "greet", {})
        assert reply.result["structuredContent"]["hello"]
        assert isinstance(nc._transport._io_writer.get_extra_info("ssl_object"), ssl.SSLObject)  # type: ignore[union-attr]


async def test_commands_connect_over_tls(tls_bus: TlsBus, tmp_path: Path) -> None:
    """What reads its settings as every process does: the provisioner, the keeper, doctor."""

    def run(identity: str, *arguments: str) -> Any:
        environment = {
            "NATS_URL": tls_bus.url,
            "OPSBUS_NATS_SEED_FILE": str(tls_bus.credentials(identity)),
            **{f"OPSBUS_{name.upper()}": str(path) for name, path in tls_bus.files().items()},
        }
        return CliRunner().invoke(app, [*arguments], env=environment | {"OPSBUS_DATA": str(tmp_path)})

    provisioned = await asyncio.to_thread(run, "provisioner", "provision")
    assert provisioned.exit_code == 0, provisioned.output
    listed = await asyncio.to_thread(run, "keeper", "keys", "list", "--json")
    assert json.loads(listed.stdout) == []
    examined = await asyncio.to_thread(run, "operator", "doctor", "--json")
    assert "runs NATS" in examined.output


async def test_another_authority_is_refused_in_one_line(tls_bus: TlsBus, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "somebody else")
    why = await refused(tls_bus.settings("edge", nats_tls_ca=other.ca))
    assert "not trusted" in why
    assert "nats_tls_ca" in why
    system = Bus.settings(tls_bus, "edge")  # no TLS setting at all: the system's authorities do not know this server
    assert "not trusted" in await refused(system)


async def test_a_name_that_is_not_the_host_s_is_refused(tls_bus: TlsBus) -> None:
    url = tls_bus.url.replace("127.0.0.1", "localhost")
    assert "not trusted" in await refused(tls_bus.settings("edge").model_copy(update={"nats_url": url}))


async def test_a_server_that_asks_for_certificates_takes_its_own_authority_s_alone(
    tls_bus: TlsBus, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other").issue("client")
    for files in (
        {"nats_tls_cert": None, "nats_tls_key": None},
        {"nats_tls_cert": stranger.cert, "nats_tls_key": stranger.key},
    ):
        why = await refused(tls_bus.settings("edge", **files))
        assert "nats_tls_cert" in why, why


async def test_a_password_in_the_url_is_not_shown(tls_bus: TlsBus, tmp_path: Path) -> None:
    url = tls_bus.url.replace("//", "//someone:hunter2@")
    other = Authority(tmp_path / "other")
    settings = tls_bus.settings("edge", nats_tls_ca=other.ca).model_copy(update={"nats_url": url})
    assert "hunter2" not in await refused(settings)


async def test_who_asks_for_tls_never_speaks_in_the_clear(bus: Bus, tls_server: TlsBus) -> None:
    """The server's first line comes in the clear: somebody in between may have taken "tls_required" out of it."""
    heard = bytearray()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.12.0", "nonce": "abcdefgh", "max_payload": 1_048_576, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        heard.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        url = f"nats://127.0.0.1:{port}"
        why = await refused(tls_server.settings("edge").model_copy(update={"nats_url": url}))
        assert "offers no TLS" in why
        assert not heard
    finally:
        server.close()
    plain = bus.settings("edge").model_copy(update={"nats_url": bus.url.replace("nats://", "tls://")})
    assert "offers no TLS" in await refused(plain)


async def test_a_renewed_certificate_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    """The server moves to a new authority while the client runs; the client's file is replaced, the process not."""
    bus = TlsBus(tmp_path / "bus")
    successor = Authority(tmp_path / "successor")
    both = tmp_path / "both.pem"
    both.write_bytes(bus.authority.ca.read_bytes() + successor.ca.read_bytes())
    bus.start()
    back = asyncio.Event()

    async def reconnected() -> None:
        back.set()

    try:
        settings = bus.settings("edge", nats_tls_ca=both)
        client = await nats_client.connect(settings, "edge", on_reconnected=reconnected)
        try:
            _replace(bus.client, successor.issue("client"))
            bus.tls(verify=True, ca_file=str(successor.ca))
            await asyncio.to_thread(bus.restart)
            async with asyncio.timeout(60):
                await back.wait()
        finally:
            await nats_client.close(client)
    finally:
        bus.stop()


@pytest.mark.parametrize("setting", ["nats_tls_ca", "nats_tls_cert", "nats_tls_key"])
@pytest.mark.parametrize("content", [None, "", "no PEM"])
async def test_a_file_that_cannot_be_used_is_named(
    tls_server: TlsBus, tmp_path: Path, setting: str, content: str | None
) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        await nats_client.connect(tls_server.settings("edge", **{setting: path}), "edge")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "OPSBUS_NATS_TLS_" in str(caught.value)


async def test_a_key_without_a_certificate_is_no_setting(tls_server: TlsBus) -> None:
    with pytest.raises(SettingsError, match="nats_tls_key"):
        await nats_client.connect(tls_server.settings("edge", nats_tls_cert=None), "edge")


def _replace(old: Pair, new: Pair) -> None:
    os.replace(new.cert, old.cert)
    os.replace(new.key, old.key)
