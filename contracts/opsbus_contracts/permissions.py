"""The least privilege of every identity on the bus, derived from the subject table and the declared streams.

An identity is one of PLATFORM_IDENTITIES or a service token. How they become nkeys in a
server's configuration is the kit's matter.
"""

from typing import NamedTuple

from opsbus_contracts.streams import AUDIT_STORE, CONSUMERS, READERS, ReaderSpec
from opsbus_contracts.subjects import SUBJECTS, Kind

PLATFORM_IDENTITIES = ("edge", "provisioner", "auditor", "operator", "keeper", "witness")
"""The identities that are no worker."""

APPROVALS_SERVICE = "approvals"
"""The worker through which second persons decide; the one that may write decisions."""

TEMPLATE = "<service>"
"""Stands for a service's token in a generated template."""


class AllowResponses(NamedTuple):
    """How many messages may answer one request, and for how long. ``true`` in NATS means one and two minutes."""

    max: int
    expires: str


class Grants(NamedTuple):
    """NATS permissions: subjects that may be published and subscribed; all else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    allow_responses: AllowResponses | None = None


REPLIES = AllowResponses(max=20_000, expires="65m")
"""A call ends within an hour; a heartbeat a second and progress fit into the count."""


def _kv_read(bucket: str, key: str = ">") -> tuple[str, ...]:
    """Grants to get keys of a bucket (direct get) and to open it."""
    return (f"$JS.API.STREAM.INFO.KV_{bucket}", f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}")


def _kv_watch(bucket: str) -> tuple[str, ...]:
    """Grants to watch a whole bucket by an ordered consumer."""
    return (*_kv_read(bucket), *_ordered(f"KV_{bucket}"))


def _ordered(stream: str) -> tuple[str, ...]:
    """Grants to read a stream by an ordered consumer, which leaves no trace in it."""
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.>",
        "$JS.FC.>",
    )


def _reads(spec: ReaderSpec) -> tuple[str, ...]:
    """Grants to read one subject of a stream by a consumer of one's own, under the names that are one's own."""
    made, pulled, gone = (f"$JS.API.CONSUMER.{verb}.{spec.stream}" for verb in ("CREATE", "MSG.NEXT", "DELETE"))
    return tuple(
        grant
        for place in spec.places
        for grant in (f"{made}.{place}.{spec.subject}", f"{pulled}.{place}", f"{gone}.{place}")
    )


def _rows(kind: Kind, *, publisher: str = "", consumer: str = "") -> tuple[str, ...]:
    def named(roles: str, role: str) -> bool:
        return not role or role in roles.split(", ")

    return tuple(
        row.wildcard
        for row in SUBJECTS
        if row.kind is kind and named(row.publisher, publisher) and named(row.consumer, consumer)
    )


def grants(identity: str) -> Grants:
    """The grants of an identity; any name that is no platform identity is a worker's service token.

    Example:
        ``grants("k8s").subscribe`` holds ``"tool.k8s.* k8s"``: only as a member of its queue group, so that a worker
        can eavesdrop neither on others nor on its own siblings.
    """
    match identity:
        case "edge":
            found = _edge()
        case "provisioner":
            found = Grants(publish=(">",), subscribe=(">",))
        case "auditor":
            found = _auditor()
        case "operator":
            found = _operator()
        case "keeper":
            found = _keeper()
        case "witness":
            found = _witness()
        case _:
            found = _worker(identity)
    return found._replace(publish=tuple(dict.fromkeys(found.publish)), subscribe=tuple(dict.fromkeys(found.subscribe)))


def _edge() -> Grants:
    return Grants(
        publish=(
            *_rows(Kind.REQUEST, publisher="edge"),
            *_rows(Kind.BROADCAST, publisher="edge"),
            "audit.edge.*",
            "event.edge.*",
            "_INBOX.edge.>",
            *_kv_watch("CATALOG"),
            *_kv_watch("APIKEYS"),
            *_kv_watch("QUARANTINE"),
            *_kv_read("KEYS"),
            *(f"$KV.{bucket}.>" for bucket in ("KEYUSE", "LIMITS", "SUBJECTKEYS", "TASKS")),
            *(grant for bucket in ("KEYUSE", "LIMITS", "SUBJECTKEYS", "TASKS") for grant in _kv_read(bucket)),
            "$JS.API.STREAM.INFO.AUDIT",
        ),
        subscribe=("_INBOX.edge.>", "edge.*.session", "edge.*.cancel", "edge.task.*", "event.*.resource_updated"),
    )


def _worker(service: str) -> Grants:
    own_buckets = ("IDEMPOTENCY", "CONFIRMATIONS", "APPROVALS")
    publish = [
        f"audit.{service}.*",
        f"event.{service}.*",
        f"$KV.CATALOG.{service}.*",
        "$JS.API.STREAM.INFO.KV_CATALOG",
        *(f"$KV.{bucket}.{service}.>" for bucket in own_buckets),
        *(grant for bucket in own_buckets for grant in _kv_read(bucket, f"{service}.>")),
        *_kv_read("KEYS"),
        *_kv_read("DECISIONS", f"{service}.*"),
        *_kv_watch("QUARANTINE"),
        *(f"$O.BLOBS.{part}.{service}.>" for part in ("C", "M")),
        *(f"$JS.API.DIRECT.GET.OBJ_BLOBS.$O.BLOBS.{part}.{service}.>" for part in ("C", "M")),
    ]
    for stream, name in ((spec.stream, spec.name) for spec in CONSUMERS if spec.service == service):
        publish += [
            f"$JS.API.STREAM.INFO.{stream}",
            f"$JS.API.CONSUMER.INFO.{stream}.{name}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.>",
        ]
    for reader in READERS:
        if reader.service == service:
            publish += _reads(reader)
    if service == AUDIT_STORE.service:
        publish += [
            *_rows(Kind.STREAM, publisher="audit"),
            *_ordered("CHECKPOINTS"),
            "$JS.API.DIRECT.GET.CHECKPOINTS.>",
            *_kv_watch("CATALOG"),
            *_kv_read("SUBJECTKEYS"),
        ]
    if service == APPROVALS_SERVICE:
        publish += [*_kv_watch("APPROVALS"), *_kv_watch("DECISIONS"), "$KV.DECISIONS.>"]
    return Grants(
        publish=tuple(publish),
        subscribe=(
            f"tool.{service}.* {service}",
            f"mcp.{service}.* {service}",
            f"shadow.{service}.* {service}",
            f"cancel.{service}",
            f"replay.{service}.>",
            f"_INBOX.{service}.>",
            "$SRV.PING",
            "$SRV.INFO",
            "$SRV.STATS",
            *(f"$SRV.{verb}.{service}" for verb in ("PING", "INFO", "STATS")),
            *(f"$SRV.{verb}.{service}.*" for verb in ("PING", "INFO", "STATS")),
        ),
        allow_responses=REPLIES,
    )


def _auditor() -> Grants:
    return Grants(
        publish=(
            *_ordered("AUDIT"),
            *_ordered("CHECKPOINTS"),
            *_kv_watch("CATALOG"),
            *_rows(Kind.REQUEST, publisher="auditor"),
            *_rows(Kind.BROADCAST, publisher="auditor"),
            "audit.auditor.*",
            *_kv_read("SUBJECTKEYS"),
            "$JS.API.STREAM.MSG.GET.AUDIT",
            "$JS.API.DIRECT.GET.AUDIT.>",
        ),
        subscribe=("_INBOX.auditor.>",),
    )


def _keeper() -> Grants:
    """Who gives and takes: API keys, signing keys, quarantine, the keys of personal data."""
    return Grants(
        publish=(
            "$KV.APIKEYS.>",
            "$KV.QUARANTINE.>",
            "$KV.KEYS.identity.*",
            "$KV.SUBJECTKEYS.>",
            "audit.keeper.*",
            *(
                grant
                for bucket in ("APIKEYS", "QUARANTINE", "KEYS", "KEYUSE", "CATALOG")
                for grant in _kv_watch(bucket)
            ),
            *_kv_read("SUBJECTKEYS"),
        ),
        subscribe=("_INBOX.keeper.>",),
    )


def _witness() -> Grants:
    """Somebody outside who follows the checkpoints, and reads the record to check them."""
    return Grants(
        publish=(*_ordered("CHECKPOINTS"), *_ordered("AUDIT"), "checkpoint.witness", "audit.witness.*"),
        subscribe=("_INBOX.witness.>",),
    )


def _operator() -> Grants:
    streams = (
        "AUDIT",
        "EVENTS",
        "CHECKPOINTS",
        "KV_CATALOG",
        "KV_KEYS",
        "KV_IDEMPOTENCY",
        "KV_CONFIRMATIONS",
        "KV_APPROVALS",
        "KV_DECISIONS",
        "KV_APIKEYS",
        "KV_KEYUSE",
        "KV_QUARANTINE",
        "KV_LIMITS",
        "KV_SUBJECTKEYS",
        "KV_TASKS",
        "OBJ_BLOBS",
    )
    return Grants(
        publish=(
            *(f"$SRV.{verb}" for verb in ("PING", "INFO", "STATS")),
            *(f"$SRV.{verb}.>" for verb in ("PING", "INFO", "STATS")),
            "$JS.API.INFO",
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in streams),
            *(f"$JS.API.CONSUMER.INFO.{spec.stream}.{spec.name}" for spec in CONSUMERS),
            *_kv_watch("CATALOG"),
            *_ordered("EVENTS"),
        ),
        subscribe=("_INBOX.operator.>", "event.>"),
    )
