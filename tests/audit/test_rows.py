"""Rows and leaves of events, whatever the events are: what is proved is what is kept, and a database takes it all."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from opsbus_audit.proof import tree
from opsbus_audit.proof.leaf import leaf_of
from opsbus_audit.record import COLUMNS, Stored, outcome_of, read_event, row, row_and_note
from opsbus_audit.store import AuditStore
from opsbus_audit.tables import event as table

LIFE = "AUDIT@20260101T000000.000000Z"
BEGIN_NS = 1_780_000_000_000_000_123

words = st.text(max_size=20) | st.sampled_from(["", "\x00", "\ud800", "\u00fc", "a" * 600, "completed", "conflict"])
anything = words | st.none() | st.booleans() | st.integers() | st.floats() | st.dictionaries(words, words, max_size=2)
data = st.fixed_dictionaries(
    {"stage": words, "call": words},
    optional={
        **dict.fromkeys(("actor", "method", "tool", "service", "error", "reason", "message", "rule", "client"), words),
        "arguments": st.none() | st.dictionaries(words, anything, max_size=3),
        "executed": st.sampled_from([None, "yes", "no", "perhaps"]),
        "mutating": st.booleans(),
        "seq": st.integers(-1, 9),
        "deadline_ms": st.integers(0, 9),
    },
)
times = ["2026-11-21T00:00:00.123456Z", "2026-11-21T00:00:00", "1969-12-31T23:59:59.9+05:30", "0001-01-01T00:00:00Z"]
events = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=64), "source": words.filter(bool), "type": st.just("opsbus.audit.v1.x"),
        "time": st.sampled_from(times), "data": data,
    }
)  # fmt: skip
subjects = st.sampled_from(
    [
        "audit.edge.completed",
        f"audit.edge.{'x' * 400}",
        f"audit.{'y' * 300}.failed",
        "a.b",
        "a.\u00fc\ud800.c",
        "a.b.c.d",
    ]
)


@st.composite
def messages(draw: Any) -> Stored:
    body = json.dumps(draw(events | anything), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    payload = draw(st.just(body) | st.binary(max_size=50))
    return Stored(LIFE, 7, draw(subjects), BEGIN_NS, draw(st.dictionaries(words, words, max_size=3)), payload)


@settings(max_examples=500, deadline=None)
@given(messages())
def test_a_row_says_what_the_model_reads_and_fits_the_table(message: Stored) -> None:
    found, event = row(message), read_event(message.payload)[0]
    assert tuple(found) == COLUMNS
    assert (found["payload"], json.loads(found["headers"])) == (message.payload, message.headers)
    assert found["headers"] == json.dumps(message.headers)
    for column in table.columns:
        value = found[column.name]
        if isinstance(value, str):
            assert type(value) is str  # not an enum: a driver looks twice at those
            assert len(value) <= (getattr(column.type, "length", None) or 500_000)
            if column.name != "headers":
                assert "\x00" not in value
                value.encode()
    assert found["unreadable"] is (event is None)
    if event is None:
        assert found["fault"]
        return
    assert found["outcome"] == (outcome_of(event.data) or "")
    assert found["mutating"] is event.data.mutating
    for name in ("call", "actor", "method", "tool"):
        given_text = getattr(event.data, name).encode("utf-8", "replace").decode().replace("\x00", "")
        assert found[name] == given_text[: table.c[name].type.length]  # type: ignore[attr-defined]


@settings(max_examples=300, deadline=None)
@given(messages())
def test_the_leaf_made_of_a_message_is_that_of_its_row(message: Stored) -> None:
    # Nothing is connected to before something is written.
    (leaf,) = AuditStore("postgresql://nobody@127.0.0.1:1/none").prepare([message]).leaves
    assert leaf == leaf_of(*tree.event_of(row(message)))


@settings(max_examples=300, deadline=None)
@given(messages())
def test_a_note_is_taken_of_what_is_an_event(message: Stored) -> None:
    found, note = row_and_note(message)
    event = read_event(message.payload)[0]
    assert (note is None) is (event is None)
    if note is not None and event is not None:
        assert (note.number, note.deadline_ms) == (event.data.seq, event.data.deadline_ms)
        columns = dict(zip(COLUMNS, found, strict=True))
        assert (note.source, note.stage, note.call) == (columns["event_source"], columns["stage"], columns["call"])


def plain(sequence: int, id: str = "") -> Stored:
    event = {
        "specversion": "1.0", "id": id or f"edge-1-{sequence}", "source": "/opsbus/edge/edge-1",
        "type": "opsbus.audit.v1.completed", "time": "2026-11-21T00:00:00Z",
        "data": {"stage": "completed", "seq": sequence, "call": f"{sequence:032x}"},
    }  # fmt: skip
    return Stored(LIFE, sequence, "audit.edge.completed", BEGIN_NS + sequence, {}, json.dumps(event).encode())


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[AuditStore]:
    opened = AuditStore(database_url)
    await opened.create()
    yield opened
    await opened.close()


async def kept(store: AuditStore) -> list[tuple[int, int | None]]:
    columns = (table.c.sequence, table.c.duplicate_of)
    async with store.engine.connect() as connection:
        found = (await connection.execute(select(*columns).order_by(table.c.sequence))).all()
    return [(one.sequence, one.duplicate_of) for one in found]


async def test_a_batch_larger_than_a_statement_and_half_of_it_stored_before(store: AuditStore) -> None:
    first = await store.append(store.prepare([plain(number) for number in range(1, 1_300, 2)]))
    again = await store.append(store.prepare([plain(number) for number in range(1, 1_300)]))
    assert (first.new, again.new, again.duplicates) == (650, 649, 0)
    assert [sequence for sequence, _ in await kept(store)] == list(range(1, 1_300))
    async with store.engine.connect() as connection:
        assert (await tree.frontier_of(connection)).size == 1_299


async def test_a_batch_prepared_in_parts_is_the_same(store: AuditStore) -> None:
    batch = [plain(1), plain(2), Stored(LIFE, 3, "audit.edge.completed", BEGIN_NS + 3, {}, b"{"), plain(4), plain(5)]
    joined = store.join([store.prepare(batch[:2]), store.prepare(batch[2:3]), store.prepare(batch[3:])])
    assert joined == store.prepare(batch)
    written = await store.append(joined)
    assert (written.new, written.unreadable) == (5, 1)


async def test_a_batch_with_a_message_twice_and_an_event_twice(store: AuditStore) -> None:
    batch = [plain(1), plain(2), plain(2), plain(3, id="edge-1-1"), plain(4, id="later"), plain(5, id="later")]
    written = await store.append(store.prepare(batch))
    assert (written.new, written.duplicates) == (5, 2)
    more = await store.append(store.prepare([plain(6, id="edge-1-1"), plain(7, id="later"), plain(8)]))
    assert (more.new, more.duplicates) == (3, 2)
    assert await kept(store) == [(1, None), (2, None), (3, 1), (4, None), (5, 4), (6, 1), (7, 4), (8, None)]
    async with store.engine.connect() as connection:
        assert (await tree.frontier_of(connection)).size == 8
