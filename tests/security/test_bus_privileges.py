"""Who may what on the bus, tried on a real server: every identity tries what only others may, by every way there is.

Refusals are silent in NATS: what counts here is the effect. Everything is looked at before and after: streams and
buckets, message by message, and what others heard. What an identity is for is tried too.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from opsbus.testing.bus import ONLOOKER, Bus
from opsbus_contracts.permissions import PLATFORM_IDENTITIES
from opsbus_contracts.streams import BUCKETS, READERS, STREAMS

WORKERS = ("k8s", "cmdb", "monitoring", "audit", "approvals")
PLATFORM = tuple(name for name in PLATFORM_IDENTITIES if name != "provisioner")
IDENTITIES = (*WORKERS, *PLATFORM)
OTHERS = ("k8s", "cmdb", "billing")
"""Services that are attacked; nobody is attacked by itself."""
EVIL = b'{"evil": true}'
SETTLE_S = 0.3

HOME: dict[str, frozenset[str]] = {
    "edge": frozenset({"KV_KEYUSE", "KV_LIMITS", "KV_SUBJECTKEYS", "KV_TASKS"}),
    "keeper": frozenset({"KV_APIKEYS", "KV_QUARANTINE", "KV_SUBJECTKEYS"}),
    "approvals": frozenset({"KV_DECISIONS"}),
}
"""Buckets of which an identity may write every key."""
READS: dict[str, frozenset[str]] = {
    "edge": frozenset(
        {
            "KV_CATALOG",
            "KV_APIKEYS",
            "KV_QUARANTINE",
            "KV_KEYS",
            "KV_KEYUSE",
            "KV_LIMITS",
            "KV_SUBJECTKEYS",
            "KV_TASKS",
        }
    ),
    "auditor": frozenset({"AUDIT", "CHECKPOINTS", "KV_CATALOG", "KV_SUBJECTKEYS"}),
    "witness": frozenset({"AUDIT", "CHECKPOINTS"}),
    "operator": frozenset({"EVENTS", "KV_CATALOG"}),
    "keeper": frozenset({"KV_APIKEYS", "KV_QUARANTINE", "KV_KEYS", "KV_KEYUSE", "KV_CATALOG", "KV_SUBJECTKEYS"}),
    "audit": frozenset({"AUDIT", "CHECKPOINTS", "KV_CATALOG", "KV_KEYS", "KV_QUARANTINE", "KV_SUBJECTKEYS"}),
}
READS |= {name: frozenset({"KV_KEYS", "KV_QUARANTINE"}) for name in WORKERS if name != "audit"}
READS["approvals"] |= {"KV_APPROVALS", "KV_DECISIONS"}
"""Whole streams that an identity may read."""
STREAM_NAMES = (*(spec.name for spec in STREAMS), *(f"KV_{spec.name}" for spec in BUCKETS), "OBJ_BLOBS")


class Key(NamedTuple):
    """Something stored, whose owners alone may write it."""

    stream: str
    subject: str
    owners: tuple[str, ...]


KEYS = (
    Key("AUDIT", "audit.edge.completed", ("edge",)),
    Key("AUDIT", "audit.cmdb.denied", ("cmdb",)),
    Key("AUDIT", "audit.k8s.denied", ("k8s",)),
    Key("AUDIT", "audit.keeper.key_created", ("keeper",)),
    Key("AUDIT", "audit.provisioner.platform_changed", ()),
    Key("AUDIT", "audit.auditor.log_read", ("auditor",)),
    Key("EVENTS", "event.cmdb.asset_updated", ("cmdb",)),
    Key("EVENTS", "event.edge.catalog_refused", ("edge",)),
    Key("CHECKPOINTS", "checkpoint.audit", ("audit",)),
    Key("CHECKPOINTS", "checkpoint.witness", ("witness",)),
    Key("KV_CATALOG", "$KV.CATALOG.cmdb.cmdb-1", ("cmdb",)),
    Key("KV_CATALOG", "$KV.CATALOG.k8s.k8s-1", ("k8s",)),
    Key("KV_KEYS", "$KV.KEYS.identity.evil", ("keeper",)),
    Key("KV_APIKEYS", "$KV.APIKEYS.a1b2c3d4e5f6", ("keeper",)),
    Key("KV_KEYUSE", "$KV.KEYUSE.a1b2c3d4e5f6", ("edge",)),
    Key("KV_QUARANTINE", "$KV.QUARANTINE.caller.0123", ("keeper",)),
    Key("KV_LIMITS", "$KV.LIMITS.global.0123", ("edge",)),
    Key("KV_SUBJECTKEYS", "$KV.SUBJECTKEYS.key.0123", ("edge", "keeper")),
    Key("KV_TASKS", "$KV.TASKS.task.0123", ("edge",)),
    Key("KV_TASKS", "$KV.TASKS.result.0123", ("edge",)),
    Key("KV_IDEMPOTENCY", "$KV.IDEMPOTENCY.cmdb.0123", ("cmdb",)),
    Key("KV_CONFIRMATIONS", "$KV.CONFIRMATIONS.cmdb.0123", ("cmdb",)),
    Key("KV_IDEMPOTENCY", "$KV.IDEMPOTENCY.k8s.0123", ("k8s",)),
    Key("KV_CONFIRMATIONS", "$KV.CONFIRMATIONS.k8s.0123", ("k8s",)),
    Key("KV_APPROVALS", "$KV.APPROVALS.cmdb.0123", ("cmdb",)),
    Key("KV_APPROVALS", "$KV.APPROVALS.k8s.0123", ("k8s",)),
    Key("KV_DECISIONS", "$KV.DECISIONS.billing.0123", ("approvals",)),
    Key("OBJ_BLOBS", "$O.BLOBS.M.cmdb.0123", ("cmdb",)),
    Key("OBJ_BLOBS", "$O.BLOBS.C.cmdb.0123.0", ("cmdb",)),
    Key("OBJ_BLOBS", "$O.BLOBS.M.Y21kYi8wMTIz", ()),  # as ADR-20 would name it
)
OWN = {
    **{name: [f"audit.{name}.denied", f"$KV.IDEMPOTENCY.{name}.x", f"$O.BLOBS.C.{name}.x.0"] for name in WORKERS},
    "edge": ["audit.edge.requested", "$KV.LIMITS.global.x", "event.edge.catalog_refused"],
    "auditor": ["audit.auditor.log_read"],
    "keeper": ["audit.keeper.key_created", "$KV.KEYS.identity.mine", "$KV.QUARANTINE.caller.x"],
    "witness": ["checkpoint.witness"],
    "operator": [],
}
"""What an identity may store: the content of what it has others store for it."""


@dataclass
class Field:
    """The bus, what was tried on it and what worked."""

    bus: Bus
    identity: str
    client: Client
    above: JetStreamContext
    onlooker: Client
    tries: int = 0
    heard: list[str] = field(default_factory=list)
    worked: list[str] = field(default_factory=list)

    async def publish(self, subject: str, body: bytes = EVIL, reply: str = "", **headers: str) -> None:
        self.tries += 1
        await self.client.publish(subject, body, reply=reply, headers=headers or None)

    async def ask(self, subject: str, body: object = b"", timeout: float = SETTLE_S) -> bytes:
        """The answer; empty: there was none, or an error."""
        self.tries += 1
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            message = await self.client.request(subject, data, timeout=timeout)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
            return b""
        if (message.headers or {}).get("Status", "200") >= "400" or b'"error"' in message.data[:300]:
            return b""
        return message.data

    async def ask_all(self, requests: Iterable[tuple[str, object]]) -> None:
        """Asks all at once; none may be answered."""
        asked = list(requests)
        answers = await asyncio.gather(*(self.ask(subject, body) for subject, body in asked))
        self.worked += [f"{subject} {body!r}" for (subject, body), answer in zip(asked, answers, strict=True) if answer]

    async def settled(self) -> None:
        """The server has taken all that was sent, and what followed of it."""
        await self.client.flush()
        await asyncio.sleep(SETTLE_S)
        await self.onlooker.flush()
        await self.onlooker.flush()


async def look(js: JetStreamContext) -> dict[str, Any]:
    """Everything that is stored, and how it is kept."""
    found: dict[str, Any] = {}
    for info in await js.streams_info():
        name = str(info.config.name)
        found[f"{name} is kept"] = json.dumps(info.config.as_dict(), default=str, sort_keys=True)
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            try:
                message = await js.get_msg(name, sequence)
            except NotFoundError:
                continue
            found[f"{name} {sequence}"] = (message.subject, message.data)
    return found


def new(before: dict[str, Any], after: dict[str, Any], mine: Callable[[str], bool]) -> list[str]:
    """What is different, without what is written under subjects of one's own."""
    problems = [f"gone: {key}" for key in before.keys() - after.keys()]
    problems += [f"changed: {key}" for key in before.keys() & after.keys() if before[key] != after[key]]
    added = [after[key] for key in after.keys() - before.keys()]
    return problems + [f"stored: {entry}" for entry in added if isinstance(entry, str) or not mine(entry[0])]


@pytest.fixture(params=IDENTITIES)
async def tried(request: pytest.FixtureRequest, bus: Bus) -> AsyncIterator[Field]:
    """An identity among others, every stream and bucket filled."""
    identity = request.param
    above = await bus.jetstream()
    for key in KEYS:
        if key.subject != "$KV.KEYS.identity.evil":
            # What the catalogue holds would be gone after seconds: it has to be there before and after the tries.
            headers = {"Nats-TTL": "never"} if key.stream == "KV_CATALOG" else None
            await above.publish(key.subject, b"of its owner", headers=headers)
    found = Field(bus, identity, await bus.connect(identity), above, await bus.connect(ONLOOKER))
    yield found
    print(f"\n{identity}: {found.tries} tries")
    assert not found.worked, found.worked


def mine(identity: str) -> Callable[[str], bool]:
    """Whether a subject is the identity's to write."""
    own = tuple(subject.rsplit(".", 1)[0] for subject in OWN[identity])
    keys = {key.subject for key in KEYS if identity in key.owners}
    homes = tuple(f"$KV.{name.removeprefix('KV_')}." for name in HOME.get(identity, ()))

    def is_mine(subject: str) -> bool:
        return subject in keys or subject.startswith((*own, *homes))

    return is_mine


async def test_nobody_writes_what_is_anothers(tried: Field) -> None:
    """Directly, as a deletion, as a roll-up that lets go of everything, and with JetStream's or a worker's own hand."""
    before = await look(tried.above)
    targets = [key for key in KEYS if tried.identity not in key.owners]
    for key in targets:
        await tried.publish(key.subject)
        await tried.publish(key.subject, b"", **{"KV-Operation": "PURGE", "Nats-Rollup": "all"})
        # JetStream's answers, sent to another's subject: an acknowledgement, a stream's state, one's own value.
        for own in OWN[tried.identity]:
            await tried.publish(own, reply=key.subject)
            await tried.publish(f"$JS.API.DIRECT.GET.{stream_of(own)}.{own}", b"", reply=key.subject)
        for stream in STREAM_NAMES:
            await tried.publish(f"$JS.API.STREAM.INFO.{stream}", b"", reply=key.subject)
    for own in OWN[tried.identity]:
        if own.startswith("$KV.SUBJECTKEYS."):
            continue  # whose writers may write all of it
        await tried.publish(own, EVIL, **{"Nats-Rollup": "all"})
        await tried.publish(own, b"", **{"Nats-Rollup": "sub"})
    await tried.settled()
    tried.worked += new(before, await look(tried.above), mine(tried.identity))


async def test_nobody_changes_how_things_are_kept(tried: Field) -> None:
    before = await look(tried.above)
    asked: list[tuple[str, object]] = []
    for stream in STREAM_NAMES:
        config = {"name": stream, "subjects": ["x.>"], "max_msgs": 1}
        bodies = {
            "UPDATE": config,
            "DELETE": {},
            "PURGE": {},
            "MSG.DELETE": {"seq": 1},
            "LEADER.STEPDOWN": {},
            "PEER.REMOVE": {"peer": "x"},
            "SNAPSHOT": {"deliver_subject": f"_INBOX.{tried.identity}.snapshot"},
            "RESTORE": {"config": config, "state": {}},
        }
        asked += [(f"$JS.API.STREAM.{verb}.{stream}", body) for verb, body in bodies.items()]
    for subjects in (["tool.>"], ["_INBOX.>"], ["audit.edge.>"], ["x.>"]):
        asked.append(("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": subjects}))
    asked.append(("$JS.API.STREAM.CREATE.MIRROR", {"name": "MIRROR", "mirror": {"name": "AUDIT"}}))
    asked += [
        (subject, {})
        for subject in (
            "$JS.API.ACCOUNT.PURGE.STORE", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE",
            "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.STORE.CONNZ", "$SYS.REQ.USER.INFO.x",
            "$SYS.ACCOUNT.STORE.CONNECT",
        )
    ]  # fmt: skip
    await tried.ask_all(asked)
    await tried.settled()
    tried.worked += new(before, await look(tried.above), mine(tried.identity))


async def test_nobody_reads_what_is_not_for_it(tried: Field) -> None:
    asked: list[tuple[str, object]] = []
    for stream in STREAM_NAMES:
        if stream not in READS[tried.identity]:
            asked += ways_to_read(stream, tried.identity)
    asked += [("$JS.API.STREAM.NAMES", {}), ("$JS.API.STREAM.LIST", {})]
    if tried.identity != "audit":
        asked.append(("$JS.API.CONSUMER.MSG.NEXT.AUDIT.audit-store", {}))
    await tried.ask_all(asked)


def ways_to_read(stream: str, identity: str) -> Iterator[tuple[str, object]]:
    """Requests for what a stream holds of others."""
    subject = next(key.subject for key in KEYS if key.stream == stream and identity not in key.owners)
    pushed = {"deliver_subject": f"_INBOX.{identity}.read", "ack_policy": "none", "deliver_policy": "all"}
    named = {"stream_name": stream, "config": pushed | {"name": "x"}}
    yield f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": 1}
    yield f"$JS.API.STREAM.MSG.GET.{stream}", {"last_by_subj": subject}
    yield f"$JS.API.DIRECT.GET.{stream}", {"seq": 1}
    yield f"$JS.API.DIRECT.GET.{stream}", {"multi_last": [">"]}
    yield f"$JS.API.DIRECT.GET.{stream}.{subject}", b""
    yield f"$JS.API.CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": pushed}
    yield f"$JS.API.CONSUMER.CREATE.{stream}.x", named
    yield f"$JS.API.CONSUMER.CREATE.{stream}.x.{subject}", named
    durable = {"stream_name": stream, "config": {"durable_name": "x", "ack_policy": "explicit"}}
    yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.x", durable
    yield f"$JS.API.CONSUMER.NAMES.{stream}", {}
    yield f"$JS.API.CONSUMER.LIST.{stream}", {}


@pytest.mark.parametrize("identity", WORKERS)
async def test_ones_own_key_in_the_subject_opens_no_others(bus: Bus, identity: str) -> None:
    """JetStream's direct get takes a body too: what it says must not count against the subject that was checked."""
    js = await bus.jetstream()
    other = next(name for name in OTHERS if name != identity)
    await js.publish(f"$KV.CONFIRMATIONS.{other}.x", b"of its owner")
    await js.publish(f"$KV.CONFIRMATIONS.{identity}.x", b"mine")
    client = await bus.connect(identity)
    own = f"$JS.API.DIRECT.GET.KV_CONFIRMATIONS.$KV.CONFIRMATIONS.{identity}.x"
    assert (await client.request(own, b"", timeout=30)).data == b"mine"
    for body in ({"seq": 1}, {"last_by_subj": f"$KV.CONFIRMATIONS.{other}.x"}, {"multi_last": [">"]}):
        answer = await client.request(own, json.dumps(body).encode(), timeout=30)
        assert b"of its owner" not in answer.data, body


@pytest.mark.parametrize("identity", IDENTITIES)
async def test_what_an_identity_is_for_works(bus: Bus, identity: str) -> None:
    client = await bus.connect(identity)
    js = client.jetstream(timeout=30)
    for own in OWN[identity]:
        assert (await js.publish(own, EVIL)).stream == stream_of(own)
    for stream in READS[identity]:
        if stream == "KV_KEYS" or (stream == "AUDIT" and identity == "audit"):
            continue  # read key by key, and by a durable consumer
        if stream in ("KV_KEYUSE", "KV_LIMITS", "KV_SUBJECTKEYS", "KV_TASKS"):
            await js.key_value(stream.removeprefix("KV_"))
            continue
        subscription = await js.subscribe("", stream=stream, ordered_consumer=True)
        assert (await subscription.consumer_info()).stream_name == stream
        await subscription.unsubscribe()
    assert bus.errors == []


LISTENED = (
    ">", "*", "*.>", "_INBOX.>", "_INBOX.*", "_INBOX.edge.>", "_INBOX.cmdb.>", "_INBOX.k8s.>", "_INBOX.keeper.>",
    "tool.>", "tool.*.*", "tool.cmdb.*", "tool.k8s.*", "tool.k8s.get_pods", "mcp.>", "mcp.cmdb.*", "shadow.>",
    "shadow.k8s.*", "cancel.>", "cancel.*", "audit.>", "audit.edge.*", "checkpoint.>", "$KV.>", "$KV.KEYS.>",
    "$KV.APIKEYS.>", "$KV.SUBJECTKEYS.>", "$KV.TASKS.>", "$KV.CONFIRMATIONS.>", "$O.>", "$JS.>", "$JS.API.>",
    "$JS.ACK.>", "$JS.EVENT.>", "$SYS.>", "$SRV.>", "edge.>", "edge.task.*", "event.>",
)  # fmt: skip
SAID = (
    "tool.cmdb.query_assets", "tool.k8s.get_pods", "mcp.cmdb.resources_read", "shadow.k8s.get_pods", "cancel.cmdb",
    "cancel.k8s", "audit.edge.completed", "checkpoint.audit", "$KV.KEYS.identity.x", "_INBOX.edge.edge-1.call",
    "_INBOX.cmdb.x", "_INBOX.keeper.x", "edge.edge-1.session", "edge.task.x", "event.cmdb.asset_updated",
)  # fmt: skip
MAY_HEAR = {
    "edge": ("_INBOX.edge.", "edge."),
    "operator": ("event.",),
    "cmdb": ("tool.cmdb.", "mcp.cmdb.", "cancel.cmdb", "_INBOX.cmdb."),
    "k8s": ("tool.k8s.", "mcp.k8s.", "shadow.k8s.", "cancel.k8s", "_INBOX.k8s."),
    "keeper": ("_INBOX.keeper.",),
}


@pytest.mark.parametrize("queue", ["", "another", "k8s", "cmdb"])
async def test_nobody_listens_to_others(tried: Field, queue: str) -> None:
    async def hear(message: Any) -> None:
        tried.heard.append(message.subject)

    for subject in LISTENED:
        tried.tries += 1
        await tried.client.subscribe(subject, queue=queue, cb=hear)
    await tried.settled()
    for subject in SAID:
        await tried.onlooker.publish(subject, b"for its reader")
    await tried.onlooker.flush()
    await asyncio.sleep(SETTLE_S)
    may = MAY_HEAR.get(tried.identity, ())
    tried.worked += [f"heard {subject}" for subject in tried.heard if not subject.startswith(may or ("-",))]
    if tried.identity in WORKERS and queue != tried.identity:
        # Its own calls it hears as a member of its own group, and no other way.
        tried.worked += [f"heard {s} in {queue!r}" for s in tried.heard if s.startswith(("tool.", "mcp.", "shadow."))]


async def test_nobody_speaks_for_others(tried: Field) -> None:
    """Calls, answers, cancellations, an edge's words to another: published, pushed by a consumer, sent as a reply."""
    asked: list[Any] = []

    async def hear(message: Any) -> None:
        asked.append((message.subject, message.data))

    may = {
        "edge": ("tool.", "mcp.", "cancel.", "edge.", "_INBOX.edge."),
        "auditor": ("shadow.",),
        "operator": ("$SRV.",),
    }
    allowed = (f"_INBOX.{tried.identity}.", *may.get(tried.identity, ()))
    listeners = [await tried.bus.connect(name) for name in ("cmdb", "edge", "keeper") if name != tried.identity]
    for listener, name in zip(listeners, (n for n in ("cmdb", "edge", "keeper") if n != tried.identity), strict=True):
        subjects = {
            "cmdb": ["tool.cmdb.*|cmdb", "mcp.cmdb.*|cmdb", "shadow.cmdb.*|cmdb", "cancel.cmdb", "_INBOX.cmdb.>"],
            "edge": ["_INBOX.edge.>", "edge.*.session", "edge.*.cancel"],
            "keeper": ["_INBOX.keeper.>"],
        }[name]
        for subject in subjects:
            plain, _, queue = subject.partition("|")
            await listener.subscribe(plain, queue=queue, cb=hear)
        await listener.flush()
    targets = [
        subject
        for subject in (
            "tool.cmdb.query_assets", "mcp.cmdb.resources_read", "mcp.cmdb.prompts_get", "shadow.cmdb.query_assets",
            "cancel.cmdb", "_INBOX.cmdb.x", "_INBOX.edge.edge-1.call", "_INBOX.keeper.x", "edge.edge-1.session",
            "edge.edge-1.cancel",
        )
        if not subject.startswith(allowed)
    ]  # fmt: skip
    consumers = []
    for target in targets:
        await tried.publish(target)
        for stream in sorted(READS[tried.identity]):
            config = {"deliver_subject": target, "ack_policy": "none", "deliver_policy": "all"}
            for group in ({}, {"deliver_group": "cmdb"}):
                body = {"stream_name": stream, "config": config | group}
                consumers.append(tried.ask(f"$JS.API.CONSUMER.CREATE.{stream}", body))
    await asyncio.gather(*consumers)  # some are made; nothing they deliver may arrive
    await tried.settled()
    for listener in listeners:
        await listener.flush()
    tried.worked += [f"said {entry}" for entry in asked]


def stream_of(subject: str) -> str:
    """The stream that keeps a subject."""
    return next(key.stream for key in KEYS if key.subject.split(".")[:2] == subject.split(".")[:2] or (
        key.subject.split(".")[0] == subject.split(".")[0] and not subject.startswith("$")
    ))  # fmt: skip


READ_EVENTS = {service: [spec for spec in READERS if spec.service == service] for service in WORKERS}
NOT_READ = ("event.cmdb.asset_updated", "event.edge.catalog_refused", "event.>", "event.cmdb.*", ">")


@pytest.mark.parametrize("identity", [name for name, specs in READ_EVENTS.items() if specs])
async def test_who_reads_one_kind_of_event_reads_no_other_and_touches_no_reader_of_others(
    bus: Bus, identity: str
) -> None:
    """By every name it may give a consumer, it gets its own subject: another filter, several, or none are refused."""
    above = await bus.jetstream()
    for key in KEYS:
        if key.stream == "EVENTS":
            await above.publish(key.subject, b"of its owner")
    for spec in READERS:
        await above.publish(spec.subject, b"for its readers")
    found = Field(bus, identity, await bus.connect(identity), above, await bus.connect(ONLOOKER))
    durable = (await above.consumer_info("EVENTS", "cmdb-events")).config.as_dict()
    specs = READ_EVENTS[identity]
    others = [spec for spec in READERS if spec.service != identity]
    subjects = [subject for subject in (*NOT_READ, *(s.subject for s in others)) if subject not in {
        spec.subject for spec in specs}]  # fmt: skip
    asked: list[tuple[str, object]] = []
    for spec in specs:
        place = spec.places[0]
        base = {"ack_policy": "none", "deliver_policy": "all", "name": place}
        named = f"$JS.API.CONSUMER.CREATE.EVENTS.{place}"
        for subject in subjects:
            other = {"stream_name": "EVENTS", "config": base | {"filter_subject": subject}}
            asked += [(f"{named}.{spec.subject}", other), (f"{named}.{subject}", other), (named, other)]
            several = {"stream_name": "EVENTS", "config": base | {"filter_subjects": [spec.subject, subject]}}
            asked += [(f"{named}.{spec.subject}", several), (named, several)]
        asked.append((f"{named}.{spec.subject}", {"stream_name": "EVENTS", "config": base}))
        asked.append((named, {"stream_name": "EVENTS", "config": base}))
        # Under another's name, or that of a durable consumer: whose filter would be changed.
        for name in ("cmdb-events", *(one.places[0] for one in others)):
            taken = base | {"name": name, "durable_name": name, "filter_subject": spec.subject}
            body = {"stream_name": "EVENTS", "config": taken}
            asked += [
                (f"$JS.API.CONSUMER.CREATE.EVENTS.{name}.{spec.subject}", body),
                (f"{named}.{spec.subject}", body),
                (f"$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.{name}", body),
                (f"$JS.API.CONSUMER.DELETE.EVENTS.{name}", b""),
            ]
            if not (identity == "cmdb" and name == "cmdb-events"):
                asked.append((f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{name}", {"batch": 1, "no_wait": True}))
    await found.ask_all(asked)
    assert not found.worked, found.worked
    assert (await above.consumer_info("EVENTS", "cmdb-events")).config.as_dict() == durable
    await found.settled()  # the server's word on each try has come
    bus.errors.clear()
    for spec in specs:
        config = {"name": spec.places[0], "filter_subject": spec.subject, "ack_policy": "none", "deliver_policy": "all"}
        body = {"stream_name": "EVENTS", "config": config, "action": "create"}
        made = f"$JS.API.CONSUMER.CREATE.EVENTS.{spec.places[0]}.{spec.subject}"
        assert await found.ask(made, body, timeout=30)
        inbox = found.client.new_inbox()
        pulled = await found.client.subscribe(inbox)
        await found.publish(f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{spec.places[0]}", b'{"batch": 1}', inbox)
        assert (await pulled.next_msg(timeout=30)).data == b"for its readers"
    assert bus.errors == []
    print(f"\n{identity}: {found.tries} tries")
