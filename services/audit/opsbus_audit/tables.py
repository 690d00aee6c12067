"""The table of the record. Names start with `audit_`, so that several stores may share one database."""

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData()

STAGES_COMMON = ("requested", "completed")
OUTCOMES_COMMON = ("open", "success")
"""Nearly every event: a search for these finds a page of them at once by time. An index of them would cost each event
at ingest."""

STAGE_IS_RARE = "stage NOT IN ('requested', 'completed')"
OUTCOME_IS_RARE = "outcome NOT IN ('open', 'success')"
"""As the indexes have it; a statement that says the same may use them."""

event = Table(
    "audit_event",
    metadata,
    # As the stream holds it: together with the key, everything a verifier needs.
    Column("stream", String(80), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", String(256), nullable=False),
    # In the key because PostgreSQL keeps the table by month of it; a sequence has one time.
    Column("stored_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("headers", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    # Read from it, to search by.
    Column("unreadable", Boolean, nullable=False),
    Column("fault", Text, nullable=False),
    Column("duplicate_of", BigInteger),
    Column("event_id", String(64), nullable=False),
    Column("event_source", String(256), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("emitter", String(64), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("call", String(64), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("method", String(64), nullable=False),
    Column("tool", String(512), nullable=False),
    Column("service", String(64), nullable=False),
    Column("mutating", Boolean, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("executed", String(16), nullable=False),
    Column("error", String(64), nullable=False),
    Column("search_text", Text, nullable=False),
    Index("audit_event_time", "stored_ns", "sequence"),
    Index("audit_event_call", "call"),
    Index("audit_event_actor", "actor", "stored_ns"),
    Index("audit_event_tool", "tool", "stored_ns"),
    Index("audit_event_id", "event_id"),
    Index("audit_event_service", "service", "stored_ns", "sequence"),
    Index(
        "audit_event_stage_rare",
        "stage",
        "stored_ns",
        "sequence",
        sqlite_where=text(STAGE_IS_RARE),
        postgresql_where=text(STAGE_IS_RARE),
    ),
    Index(
        "audit_event_outcome_rare",
        "outcome",
        "stored_ns",
        "sequence",
        sqlite_where=text(OUTCOME_IS_RARE),
        postgresql_where=text(OUTCOME_IS_RARE),
    ),
    Index("audit_event_sequence", "sequence"),
    Index(
        "audit_event_writes",
        "stored_ns",
        "sequence",
        sqlite_where=text("mutating IS 1"),
        postgresql_where=text("mutating IS true"),
    ),
    Index(
        "audit_event_unreadable",
        "stored_ns",
        "sequence",
        sqlite_where=text("unreadable IS 1"),
        postgresql_where=text("unreadable IS true"),
    ),
    postgresql_partition_by="RANGE (stored_ns)",
)
"""`stream` names one life of the stream (its name and creation time): a stream made anew counts from 1 again."""

source = Table(
    "audit_source",
    metadata,
    Column("source", String(256), primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("missing", Text, nullable=False),
    Column("told", Text, nullable=False),
)
"""How far each process that writes events has counted. ``missing`` and ``told`` are JSON lists of runs of numbers."""

hold = Table(
    "audit_hold",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("placed_by", String(256), nullable=False),
    Column("placed_us", BigInteger, nullable=False),
    Column("covers", Text, nullable=False),
    Column("lifted_us", BigInteger),
    Column("lifted_by", String(256)),
    Column("lifted_reason", Text),
)
"""Legal holds; ``covers`` is a JSON object of globs."""

let_go = Table(
    "audit_let_go",
    metadata,
    Column("stream", String(80), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("let_go_us", BigInteger, nullable=False),
)
"""Runs of sequences that retention deleted: not there, and meant so."""

tree = Table(
    "audit_tree",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)
"""One row: how many leaves the tree has, and the roots of its perfect subtrees."""

leaves = Table(
    "audit_leaves",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("stream", String(80), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    Index("audit_leaves_sequence", "stream", "first"),
)
"""Leaf hashes, kept for ever: a row for a run of sequences. ``position`` is the first one's in the tree."""

node = Table(
    "audit_node",
    metadata,
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Roots of large perfect subtrees, so that a proof is made of few hashes. All of it follows from the leaves."""

checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False),
    Column("signed_us", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False),
)
"""Signed tree heads; ``entry`` is the note with the proof that it goes on from the one before."""

worker = Table(
    "audit_worker",
    metadata,
    Column("service", String(64), primary_key=True),
    Column("instance", String(128), primary_key=True),
    Column("present", Boolean, nullable=False),
    Column("started", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("tools", BigInteger, nullable=False),
    Column("noted_us", BigInteger, nullable=False),
    Column("noted_by", String(64), nullable=False),
    Column("event", LargeBinary),
)
"""Workers as the record knows them; ``event`` is the audit event of the last change while the stream is not known to
have it."""
