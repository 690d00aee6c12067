"""Provisioning and the server: created once, drift found and mended, least privilege holds."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError

from opsbus import Context, Worker
from opsbus.identity import Signer
from opsbus.nats_server import NatsServer, NatsServerError, ServerOptions, server_config
from opsbus.nkeys_ import load_or_create, new_user, public_of
from opsbus.provision import provision
from opsbus.testing.ports import free_port
from opsbus.testing.waiting import until
from opsbus_contracts.streams import BUCKETS, CONSUMERS, OBJECT_STORES, STREAMS

COUNT = len(STREAMS) + len(BUCKETS) + len(OBJECT_STORES) + len(CONSUMERS)


async def test_twice_is_once(bus):
    js = await bus.jetstream()
    for info in await js.streams_info():
        await js.delete_stream(info.config.name)
    assert [step.action for step in await provision(js)] == ["created"] * COUNT
    assert [step.action for step in await provision(js)] == ["unchanged"] * COUNT


async def test_drift_is_told_and_mended(bus):
    js = await bus.jetstream()
    await js.update_stream((await js.stream_info("EVENTS")).config, max_age=60.0, duplicate_window=30.0)
    steps = {step.name: step for step in await provision(js)}
    assert steps["EVENTS"].action == "updated"
    assert any("max_age: 60.0 -> 604800.0" in line for line in steps["EVENTS"].drift)
    assert steps["AUDIT"].action == "unchanged"
    assert (await js.stream_info("EVENTS")).config.max_age == 604800.0


async def test_what_the_server_refuses_is_told(bus):
    js = await bus.jetstream()
    await js.delete_stream("CHECKPOINTS")
    await js.add_stream(name="CHECKPOINTS", subjects=["checkpoint.>"], storage="memory")
    steps = {step.name: step for step in await provision(js)}
    assert steps["CHECKPOINTS"].action == "refused"
    assert "storage" in steps["CHECKPOINTS"].problem
    await js.delete_stream("CHECKPOINTS")


async def test_the_record_cannot_be_cut(bus):
    js = await bus.jetstream()
    await js.publish("audit.edge.requested", b"{}")
    with pytest.raises(APIError):
        await js.purge_stream("AUDIT")
    with pytest.raises(APIError):
        await js.delete_msg("AUDIT", 1)


async def test_identities_may_do_their_own_and_nothing_else(bus):
    """Denied publishes raise nothing in the client: the server's word is in the errors."""
    client = await bus.connect("test")
    js = client.jetstream()
    await js.publish("audit.test.denied", b"{}", timeout=5)
    await js.publish("event.test.seen", b"{}", timeout=5)
    before = len(bus.errors)
    denied = [
        "audit.edge.requested",
        "audit.billing.denied",
        "event.billing.seen",
        "$KV.CATALOG.billing.x",
        "$KV.KEYS.identity.x",
        "$KV.IDEMPOTENCY.billing.x",
        "tool.test.one",
        "cancel.test",
        "checkpoint.audit",
        "$JS.API.STREAM.DELETE.AUDIT",
        "$JS.API.STREAM.UPDATE.AUDIT",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$O.BLOBS.C.billing-x",
    ]
    for subject in denied:
        await client.publish(subject, b"{}")
    for subject, queue in (("tool.test.*", ""), ("tool.billing.*", "billing"), ("audit.>", ""), ("_INBOX.>", "")):
        await client.subscribe(subject, queue=queue)
    await until(lambda: len(bus.errors) == before + len(denied) + 4)
    assert all("permissions violation" in str(error).lower() for error in bus.errors[before:])


async def test_nobody_reads_anothers_replies(bus):
    spy, edge = await bus.connect("billing"), await bus.connect("edge")
    heard = await spy.subscribe("_INBOX.edge.>")
    await until(lambda: bus.errors)
    with pytest.raises(NoRespondersError):
        await edge.request("tool.test.nothing", b"", timeout=2)
    with pytest.raises(NatsTimeoutError):
        await heard.next_msg(timeout=0.1)


async def test_a_new_service_gets_an_identity_and_only_its_own(bus, run_worker, caller):
    worker = Worker("newcomer", version="1.0.0")

    @worker.tool(permission="newcomer:read", read_only=True)
    async def one(ctx: Context[None]) -> str:
        """One."""
        return "one"

    async with run_worker(worker):
        assert (await caller.call("newcomer", "one")).structured == {"result": "one"}


def test_nkeys(tmp_path):
    key = load_or_create(tmp_path / "keys" / "a.nk")
    assert key == load_or_create(tmp_path / "keys" / "a.nk")
    assert (tmp_path / "keys" / "a.nk").stat().st_mode & 0o077 == 0
    assert key.public.startswith("U")
    assert public_of(key.seed) == key.public != new_user().public
    for wrong in ("", "SUAWRONG", Signer.generate().kid, "é"):
        with pytest.raises(ValueError, match="no nkey seed"):
            public_of(wrong)


def make_server(tmp_path, **options) -> NatsServer:
    return NatsServer(ServerOptions(store_dir=tmp_path / "data", users={}, **options), tmp_path / "server")


def test_production_writes_are_on_disk_before_they_are_acknowledged(tmp_path):
    options = ServerOptions(store_dir=tmp_path, users={"edge": "UX"})
    config = json.loads(server_config(options, 4222))
    assert config["jetstream"]["sync_interval"] == "always"
    (user,) = config["accounts"]["BUS"]["users"]
    assert user["nkey"] == "UX"
    assert "tool.*.*" in user["permissions"]["publish"]["allow"]


def test_a_server_that_cannot_start_says_why(tmp_path):
    server = make_server(tmp_path, extra={"no_such_setting": True})
    with pytest.raises(NatsServerError, match="no_such_setting"):
        server.start()
    assert server.pid is None


def test_start_stop_restart_kill(tmp_path):
    key = new_user()
    server = NatsServer(
        ServerOptions(store_dir=tmp_path / "data", users={"provisioner": key.public}, port=free_port()),
        tmp_path / "server",
    )
    server.start()
    try:
        pid, url = server.pid, server.url
        server.start()
        assert server.pid == pid
        server.restart()
        assert server.url == url
        assert server.pid not in (None, pid)
        server.reload({"provisioner": key.public, "test": new_user().public})
        with pytest.raises(NatsServerError, match="refuses"):
            server.reload({"provisioner": "not a key"})
        server.kill()
        assert server.pid is None
        server.options.users = {"provisioner": key.public}
        server.start()
    finally:
        server.stop()
    assert server.pid is None
    server.stop()
    with pytest.raises(NatsServerError, match="not running"):
        server.reload()


PARENT = """
import os, signal, sys
from pathlib import Path
from opsbus.testing.bus import Bus
bus = Bus(Path(sys.argv[1]))
bus.start()
print(bus.server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_test_run_leaves_no_server(tmp_path):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(parent.communicate(), 60)
    pid = int(out)
    await until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_data_survives_a_kill(bus):
    js = await bus.jetstream()
    await js.publish("event.test.seen", b"kept")
    bus.server.kill()
    bus.start()
    again = await bus.jetstream()
    assert (await again.get_msg("EVENTS", seq=1)).data == b"kept"
    await asyncio.sleep(0)
