"""Least privilege holds on a real server: what an identity is not for, it cannot do.

A denied publish raises nothing in the client; the server says so in an error that ``bus.errors`` collects, and nothing
arrives. Both are checked.
"""

import asyncio
from typing import Any

import nats.errors
import nats.js.errors
import pytest

from opsbus.testing.bus import Bus

WORKER_MUST_NOT_PUBLISH = [
    "tool.cmdb.query_assets",
    "tool.k8s.get_pods",
    "mcp.cmdb.resources_read",
    "cancel.cmdb",
    "audit.edge.completed",
    "audit.cmdb.completed",
    "event.cmdb.asset_updated",
    "checkpoint.audit",
    "$KV.CATALOG.cmdb.cmdb-1",
    "$KV.KEYS.identity.mine",
    "$KV.IDEMPOTENCY.cmdb.digest",
    "_INBOX.cmdb.x",
    "edge.edge-1.session",
    "$JS.API.STREAM.DELETE.AUDIT",
    "$JS.API.STREAM.PURGE.AUDIT",
    "$JS.API.STREAM.UPDATE.AUDIT",
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.CONSUMER.CREATE.AUDIT",
]
WORKER_MUST_NOT_SUBSCRIBE = [
    ("tool.cmdb.*", ""),
    ("tool.k8s.*", ""),
    ("tool.k8s.*", "another-group"),
    ("tool.>", "k8s"),
    ("mcp.k8s.*", ""),
    ("audit.>", ""),
    ("event.>", ""),
    ("_INBOX.>", ""),
    ("_INBOX.edge.>", ""),
    ("_INBOX.cmdb.>", ""),
    ("cancel.cmdb", ""),
    ("$KV.CATALOG.>", ""),
    ("edge.*.session", ""),
    (">", ""),
]
EDGE_MUST_NOT_PUBLISH = [
    "audit.k8s.completed",
    "event.k8s.deployment_scaled",
    "$KV.CATALOG.k8s.k8s-1",
    "$KV.KEYS.identity.mine",
    "_INBOX.k8s.x",
    "$JS.API.STREAM.DELETE.AUDIT",
    "$JS.API.STREAM.PURGE.AUDIT",
]
AUDITOR_MUST_NOT_PUBLISH = ["audit.edge.completed", "tool.k8s.get_pods", "$JS.API.STREAM.DELETE.AUDIT", "cancel.k8s"]


async def denied(bus: Bus) -> str:
    """The server's next word about a permission."""
    async with asyncio.timeout(60):
        while True:
            for error in bus.errors:
                if "ermissions violation" in str(error):
                    bus.errors.clear()
                    return str(error).lower()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("identity", "subjects"),
    [
        ("k8s", WORKER_MUST_NOT_PUBLISH),
        ("edge", EDGE_MUST_NOT_PUBLISH),
        ("auditor", AUDITOR_MUST_NOT_PUBLISH),
        ("operator", [*AUDITOR_MUST_NOT_PUBLISH, "$KV.CATALOG.k8s.k8s-1", "event.k8s.x"]),
    ],
)
async def test_publishing_beyond_the_grant_is_denied(bus: Bus, identity: str, subjects: list[str]) -> None:
    listener = await bus.connect("onlooker")
    heard: list[str] = []

    async def hear(msg: Any) -> None:
        heard.append(msg.subject)

    client = await bus.connect(identity)
    for subject in subjects:
        subscription = await listener.subscribe(subject, cb=hear)
        await listener.flush()
        await client.publish(subject, b"{}")
        assert subject.lower() in await denied(bus)
        await subscription.unsubscribe()
    assert heard == []


@pytest.mark.parametrize(("subject", "queue"), WORKER_MUST_NOT_SUBSCRIBE)
async def test_a_worker_cannot_listen_to_others(bus: Bus, subject: str, queue: str) -> None:
    client = await bus.connect("k8s")
    await client.subscribe(subject, queue=queue)
    await client.flush()
    assert "subscription" in await denied(bus)


async def test_the_worker_may_do_its_work(bus: Bus) -> None:
    client = await bus.connect("k8s")
    await client.subscribe("tool.k8s.*", queue="k8s")
    await client.subscribe("cancel.k8s")
    await client.publish("$KV.CATALOG.k8s.k8s-1", b"{}")
    await client.jetstream().publish("event.k8s.deployment_scaled", b"{}")
    await client.jetstream().publish("audit.k8s.denied", b"{}")
    await client.flush()
    assert bus.errors == []


async def test_the_record_cannot_be_shortened_even_by_the_provisioner(bus: Bus) -> None:
    js = await bus.jetstream("provisioner")
    await js.publish("audit.edge.requested", b"{}")
    with pytest.raises(nats.js.errors.APIError):
        await js.purge_stream("AUDIT")
    with pytest.raises(nats.js.errors.APIError):
        await js.delete_msg("AUDIT", 1)
    info = await js.stream_info("AUDIT")
    assert (info.config.deny_delete, info.config.deny_purge, info.state.messages) == (True, True, 1)


async def test_a_worker_cannot_make_a_stream_of_its_own(bus: Bus) -> None:
    client = await bus.connect("k8s")
    with pytest.raises(nats.errors.TimeoutError):
        await client.request("$JS.API.STREAM.CREATE.MINE", b'{"name": "MINE", "subjects": ["tool.>"]}', timeout=0.5)
    assert "$js.api.stream.create.mine" in await denied(bus)
    names = [info.config.name for info in await (await bus.jetstream("provisioner")).streams_info()]
    assert "MINE" not in names
