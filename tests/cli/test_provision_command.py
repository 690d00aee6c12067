"""``opsbus provision``: on a bare server, again, after drift; and the identity of a new worker, on a real server."""

import getpass
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opsbus import nats_client
from opsbus.identity import Signer
from opsbus.nats_server import NatsServer, ServerOptions
from opsbus.settings import Settings


def opsbus(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opsbus", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_created_unchanged_updated(bus) -> None:
    access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    config = (await js.stream_info("CHECKPOINTS")).config
    config.description = "something else"
    await js.update_stream(config)

    first = opsbus("provision", **access)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^created +stream EVENTS$", first.stdout, re.MULTILINE)
    assert re.search(r"^updated +stream CHECKPOINTS +description: something else", first.stdout, re.MULTILINE)

    second = opsbus("provision", **access)
    assert {line.split()[0] for line in second.stdout.splitlines()} == {"unchanged"}


async def provisioned(bus) -> list[dict[str, Any]]:
    js = await bus.jetstream()
    last = (await js.stream_info("AUDIT")).state.last_seq
    found = [await js.get_msg("AUDIT", sequence) for sequence in range(1, last + 1)]
    assert {message.subject for message in found} <= {"audit.provisioner.provisioned"}
    return [json.loads(message.data)["data"] for message in found]


async def test_what_was_changed_is_recorded_and_nothing_else_is(bus, tmp_path: Path) -> None:
    access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
    assert opsbus("provision", **access).returncode == 0
    assert await provisioned(bus) == []
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    config = (await js.stream_info("CHECKPOINTS")).config
    config.description = "something else"
    await js.update_stream(config)
    assert opsbus("provision", **access).returncode == 0
    (event,) = await provisioned(bus)
    assert (event["stage"], event["method"], event["target"]) == ("provisioned", "platform", "bus")
    assert event["actor"] == getpass.getuser()
    details = event["details"]
    assert details["created"] == ["stream EVENTS", "consumer cmdb-events"]
    assert list(details["updated"]) == ["stream CHECKPOINTS"]
    assert details["updated"]["stream CHECKPOINTS"][0].startswith("description: something else -> ")
    assert "refused" not in details
    signer = Signer.generate()
    key = tmp_path / "identity.pem"
    key.write_bytes(signer.pem())
    for _ in range(2):
        assert opsbus("provision", "--identity-key", str(key), **access).returncode == 0
    _, second = await provisioned(bus)
    assert second["details"] == {"identity_key": signer.kid, "replicas": 1}


async def test_what_the_server_refused_is_recorded(bus) -> None:
    js = await bus.jetstream()
    await js.delete_stream("EVENTS")
    await js.add_stream(name="EVENTS", subjects=["event.>"], storage="memory")
    access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
    assert opsbus("provision", **access).returncode == 1
    (event,) = await provisioned(bus)
    refused = event["details"]["refused"]["stream EVENTS"]
    assert any(line.startswith("storage: memory -> ") for line in refused["drift"])
    assert "storage" in refused["problem"]


async def test_what_is_done_on_a_bare_server_is_recorded_in_what_was_made(bus) -> None:
    js = await bus.jetstream()
    for info in await js.streams_info():
        await js.delete_stream(str(info.config.name))
    access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
    done = opsbus("provision", **access)
    assert done.returncode == 0, done.stderr
    (event,) = await provisioned(bus)
    assert {"stream AUDIT", "bucket CATALOG", "object store BLOBS", "consumer audit-store"} <= set(
        event["details"]["created"]
    )


async def test_what_the_record_does_not_take_is_said(bus) -> None:
    js = await bus.jetstream()
    await js.delete_stream("AUDIT")
    await js.delete_stream("EVENTS")
    # Somebody else's stream has the record's subjects: AUDIT cannot be made.
    await js.add_stream(name="OTHER", subjects=["audit.nothing"])
    try:
        access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
        done = opsbus("provision", **access)
    finally:
        await js.delete_stream("OTHER")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "overlap" in done.stderr


async def test_the_public_key_of_a_signer_is_published(bus, tmp_path: Path) -> None:
    signer = Signer.generate()
    key = tmp_path / "identity.pem"
    key.write_bytes(signer.pem())
    access = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("provisioner"))}
    done = opsbus("provision", "--identity-key", str(key), **access)
    assert done.returncode == 0, done.stderr
    bucket = await (await bus.jetstream()).key_value("KEYS")
    stored = json.loads((await bucket.get(f"identity.{signer.kid}")).value)
    assert stored["public_key_pem"] == signer.public().public_key_pem
    assert "PRIVATE" not in json.dumps(stored)


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    key = tmp_path / "identity.pem"
    key.write_text("garbage")
    done = opsbus("provision", "--identity-key", str(key), NATS_URL="nats://127.0.0.1:1")
    assert done.returncode == 1
    assert "holds no unencrypted Ed25519" in done.stderr


async def test_an_identity_that_may_not_is_told_so(bus) -> None:
    done = opsbus("provision", NATS_URL=bus.url, OPSBUS_NATS_SEED_FILE=str(bus.credentials("auditor")))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "JetStream does not do it" in done.stderr or "refuses" in done.stderr


def test_no_platform_no_bus(tmp_path: Path) -> None:
    done = opsbus("provision", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "NATS_URL is not set" in done.stderr


async def test_the_identity_of_a_new_worker_holds_on_a_real_server(tmp_path: Path) -> None:
    printed = opsbus("provision", "--service", "billing").stdout
    seed = next(line for line in printed.splitlines() if line.startswith("SU"))
    block = json.loads(printed[printed.index("{") :])
    (tmp_path / "billing.nk").write_text(seed)
    options = ServerOptions(
        store_dir=tmp_path / "data", users={}, sync_always=False, extra={"authorization": {"users": [block]}}
    )
    server = NatsServer(options, tmp_path)
    server.start()
    errors: list[Exception] = []
    try:
        settings = Settings(nats_url=server.url, nats_seed_file=tmp_path / "billing.nk")
        client = await nats_client.connect(settings, "billing", on_error=errors.append)
        await client.subscribe("tool.billing.*", queue="billing")
        await client.flush()
        assert errors == []
        await client.subscribe("tool.k8s.*", queue="k8s")
        await client.flush()
        await client.flush()
        assert "permissions violation" in str(errors[0]).lower()
        await client.close()
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["Billing", "bill ing", "", "a.b"])
def test_bad_names_get_no_key(name: str) -> None:
    done = opsbus("provision", "--service", name or " ")
    assert done.returncode == 1
    assert "no service token" in done.stderr
    assert "SU" not in done.stdout
