"""Streams, buckets and consumers, declared once. ``opsbus provision`` creates them; a worker's start-up never does."""

from typing import NamedTuple

from opsbus_contracts.catalog import CATALOG_TTL_S

DAY_S = 86_400.0

READERS_AT_ONCE = 16
"""Instances of one service that read the same events at once, at most."""


class StreamSpec(NamedTuple):
    """A JetStream stream with limits retention and file storage."""

    name: str
    subjects: tuple[str, ...]
    description: str
    max_age_s: float
    """Messages older than this are let go. Seconds; 0: never."""
    max_bytes: int
    """Bytes kept at most."""
    discard_new: bool
    """True: a full stream refuses writes. False: it lets the oldest go."""
    deny_delete: bool
    deny_purge: bool
    duplicate_window_s: float
    """Equal ``Nats-Msg-Id`` within this long are stored once. Seconds."""
    max_msg_bytes: int = 1_000_000


class BucketSpec(NamedTuple):
    """A key-value bucket."""

    name: str
    description: str
    ttl_s: float
    """Keys not put again for this long are gone. Seconds; 0: never."""
    history: int = 1
    max_bytes: int = 256 * 1024 * 1024
    limit_marker_ttl_s: float = 0.0
    """How long the marker of an expired key stays, so that watchers see the expiry. Seconds; 0: no marker."""
    max_value_bytes: int = 1_000_000
    rollup: bool = False
    """Whether a write may let go what the key, or the whole bucket, held before (``Nats-Rollup``). Only where all who
    may write may write every key."""


class ObjectStoreSpec(NamedTuple):
    """An object store."""

    name: str
    description: str
    ttl_s: float
    max_bytes: int


class ConsumerSpec(NamedTuple):
    """A durable pull consumer with explicit acknowledgement."""

    stream: str
    name: str
    description: str
    service: str
    """The service that reads it."""
    ack_wait_s: float
    max_ack_pending: int


class ReaderSpec(NamedTuple):
    """Events of one subject that every instance of a service reads in their order and keeps in memory.

    An instance makes a consumer of its own, which leaves no trace, under one of ``places``: with a name, stream and
    filter all fixed a grant lets it read this subject and touch no consumer of others.
    """

    service: str
    """The service that reads."""
    subject: str
    """``event.cmdb.owners_listed``"""
    stream: str = "EVENTS"

    @property
    def places(self) -> tuple[str, ...]:
        """Names of consumers; so many instances can read at once."""
        about = self.subject.removeprefix("event.").replace(".", "-")
        return tuple(f"{self.service}-reads-{about}-{place}" for place in range(READERS_AT_ONCE))


AUDIT = StreamSpec(
    "AUDIT", ("audit.>",), "Every step of every call: the record.", 90 * DAY_S, 32 * 1024**3, True, True, True, 600.0
)
EVENTS = StreamSpec(
    "EVENTS", ("event.>",), "What services saw and did.", 7 * DAY_S, 4 * 1024**3, False, False, False, 120.0
)
CHECKPOINTS = StreamSpec(
    "CHECKPOINTS", ("checkpoint.>",), "Signed tree heads over AUDIT.", 0.0, 1024**3, True, True, True, 600.0
)
STREAMS: tuple[StreamSpec, ...] = (AUDIT, EVENTS, CHECKPOINTS)

CATALOG = BucketSpec("CATALOG", "Which workers are alive and what they offer.", CATALOG_TTL_S, limit_marker_ttl_s=5.0)
KEYS = BucketSpec("KEYS", "Public keys: who may sign identities.", 0.0, history=5)
IDEMPOTENCY = BucketSpec("IDEMPOTENCY", "First outcomes by idempotency key.", DAY_S)
CONFIRMATIONS = BucketSpec("CONFIRMATIONS", "Plans that wait for their confirmation; spent once.", 600.0)
APPROVALS = BucketSpec("APPROVALS", "Calls that wait for a second person.", DAY_S)
DECISIONS = BucketSpec("DECISIONS", "What second persons decided; spent once.", DAY_S)
APIKEYS = BucketSpec("APIKEYS", "API keys, as digests.", 0.0, history=5)
KEYUSE = BucketSpec("KEYUSE", "When each API key was used last.", 0.0)
QUARANTINE = BucketSpec("QUARANTINE", "Who and what is shut out.", 0.0, history=5)
LIMITS = BucketSpec("LIMITS", "Token buckets from which edges lease.", 2 * DAY_S)
SUBJECTKEYS = BucketSpec(
    "SUBJECTKEYS", "Keys of personal data in the record; one that is gone forgets a person.", 0.0, rollup=True
)
TASKS = BucketSpec("TASKS", "Calls that clients poll for: state, questions, results.", DAY_S, max_bytes=1024**3)
BUCKETS: tuple[BucketSpec, ...] = (
    CATALOG,
    KEYS,
    IDEMPOTENCY,
    CONFIRMATIONS,
    APPROVALS,
    DECISIONS,
    APIKEYS,
    KEYUSE,
    QUARANTINE,
    LIMITS,
    SUBJECTKEYS,
    TASKS,
)

BLOBS = ObjectStoreSpec("BLOBS", "Results too large for a message.", DAY_S, 8 * 1024**3)
OBJECT_STORES: tuple[ObjectStoreSpec, ...] = (BLOBS,)

AUDIT_STORE = ConsumerSpec("AUDIT", "audit-store", "The audit worker's place in the record.", "audit", 30.0, 2_000)
AUDIT_SINK = ConsumerSpec(
    "AUDIT", "audit-sink", "The place in the record of what copies it to a search engine.", "audit", 30.0, 2_000
)
CMDB_EVENTS = ConsumerSpec(
    "EVENTS", "cmdb-events", "What the CMDB has learned of what others saw.", "cmdb", 30.0, 1_000
)
CONSUMERS: tuple[ConsumerSpec, ...] = (AUDIT_STORE, AUDIT_SINK, CMDB_EVENTS)

OWNERS_LISTED = "event.cmdb.owners_listed"
ALERT_FIRING = "event.monitoring.alert_firing"
ALERT_RESOLVED = "event.monitoring.alert_resolved"
READERS: tuple[ReaderSpec, ...] = (
    ReaderSpec("cmdb", OWNERS_LISTED),
    *(ReaderSpec("monitoring", subject) for subject in (OWNERS_LISTED, ALERT_FIRING, ALERT_RESOLVED)),
    *(ReaderSpec("k8s", subject) for subject in (OWNERS_LISTED, ALERT_FIRING, ALERT_RESOLVED)),
)
"""Who reads which events for itself. The CMDB and the monitoring worker read their own: what was told already."""


def reader(service: str, subject: str) -> ReaderSpec:
    """The declared reader.

    Raises:
        KeyError: there is none.
    """
    for spec in READERS:
        if (spec.service, spec.subject) == (service, subject):
            return spec
    raise KeyError(f"{service} {subject}")
