"""The record in the order it was stored, for replay, export and report: from the store, from the stream, or from both,
where the stream no longer has what is older. Nothing is written."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from nats.aio.client import Client
from sqlalchemy import ColumnElement, and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.ordered import Range, Recorded, StreamReader
from opsbus_audit.record import OUTCOMES, Outcome
from opsbus_audit.search import Question, matches, nanos
from opsbus_contracts.streams import AUDIT

_event = tables.event
_ROWS = 2_000
"""Rows of the store in one batch: a few megabytes."""

_CLOCKS_NS = 3_600 * 1_000_000_000
"""The clocks of two servers may differ this much. Nanoseconds."""

Batch = list[Recorded]
"""What was recorded. Not as JSON: thousands of objects that live on would cost more than reading them twice."""


@dataclass(frozen=True)
class StreamState:
    """What the stream holds now."""

    life: str
    """As the store names it: the stream's name and when it was made."""
    first: int
    first_ns: int | None
    """When the first event it still has was stored; None: it has none."""


async def stream_state(client: Client) -> StreamState:
    """What the stream holds.

    Raises:
        nats.js.errors.NotFoundError: there is no stream.
    """
    info = await client.jetstream(timeout=5.0).stream_info(AUDIT.name)
    created = info.created.strftime("%Y%m%dT%H%M%S.%fZ") if info.created else ""
    first_ns = None
    if info.state.messages:
        # The client library leaves the first event's time out.
        answer = orjson.loads((await client.request(f"$JS.API.STREAM.INFO.{AUDIT.name}", b"", timeout=5.0)).data)
        first_ns = nanos(datetime.fromisoformat(answer["state"]["first_ts"][:26].rstrip("Z") + "+00:00"))
    return StreamState(f"{AUDIT.name}@{created}", info.state.first_seq, first_ns)


async def from_store(
    engine: AsyncEngine, question: Question, before: StreamState | None = None
) -> AsyncIterator[Batch]:
    """Events of the store that match, the oldest first.

    Args:
        before: Only what the stream, being in this state, no longer has.
    """
    where = matches(question)
    if before is not None:
        where = and_(where, ~and_(_event.c.stream == before.life, _event.c.sequence >= before.first))
        if before.first_ns is not None:
            where = and_(where, _event.c.stored_ns < before.first_ns + _CLOCKS_NS)
    columns = (_event.c.sequence, _event.c.stored_ns, _event.c.subject, _event.c.headers, _event.c.payload)
    after: tuple[int, int] | None = None
    async with engine.connect() as connection:
        while True:
            page = where if after is None else and_(where, _after(*after))
            order = (_event.c.stored_ns, _event.c.sequence)
            rows = (await connection.execute(select(*columns).where(page).order_by(*order).limit(_ROWS))).all()
            if not rows:
                return
            yield [_read(row) for row in rows]
            after = (rows[-1].stored_ns, rows[-1].sequence)


def _after(stored_ns: int, sequence: int) -> ColumnElement[bool]:
    return and_(_event.c.stored_ns >= stored_ns, tuple_(_event.c.stored_ns, _event.c.sequence) > (stored_ns, sequence))


def _read(row: Any) -> Recorded:
    return Recorded(row.sequence, row.stored_ns, row.subject, orjson.loads(row.headers), bytes(row.payload))


async def from_stream(
    client: Client, question: Question, *, follow: bool, only_new: bool = False
) -> AsyncIterator[Batch]:
    """Events of the stream that match, in order; with ``follow`` without end, and an empty batch now and then."""
    subject = f"audit.*.{question.stage}" if question.stage and _is_token(question.stage) else AUDIT.subjects[0]
    since = question.since if question.first is None else None
    wanted = Range(question.first, since, not follow, only_new, subject)
    passes = filter_of(question)
    until = nanos(question.until) if question.until else None
    last = question.last
    async for batch in StreamReader(client, wanted).batches():
        inside = _until(batch, until, last)
        kept = inside if passes is None else [item for item in inside if passes(item, json_of(item.payload))]
        if kept or follow:
            yield kept
        if len(inside) < len(batch):
            return


def _until(batch: Batch, until: int | None, last: int | None) -> Batch:
    """The batch up to the end of the range."""
    if until is None and last is None:
        return batch
    for at, item in enumerate(batch):
        if (until is not None and item.stored_ns > until) or (last is not None and item.sequence > last):
            return batch[:at]
    return batch


async def from_both(
    engine: AsyncEngine | None, client: Client, question: Question, *, follow: bool
) -> AsyncIterator[Batch]:
    """First what only the store still has, then the stream."""
    if engine is not None:
        state = await stream_state(client)
        if _older_wanted(question, state):
            async for batch in from_store(engine, question, state):
                yield batch
    async for batch in from_stream(client, question, follow=follow):
        yield batch


def _older_wanted(question: Question, state: StreamState) -> bool:
    """Whether something before the stream's first event is asked for."""
    if question.first is not None:
        return question.first < state.first
    if question.since is not None and state.first_ns is not None:
        return nanos(question.since) < state.first_ns
    return True


def json_of(payload: bytes) -> Any:
    """The event in a payload; None: the bytes are no JSON object with data."""
    try:
        event = orjson.loads(payload)
        return event if type(event["data"]) is dict else None
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return None


def outcome_of_data(data: dict[str, Any]) -> str:
    """As the store's column says; empty for a stage that is not known."""
    outcome = OUTCOMES.get(str(data.get("stage", "")))
    return (
        "" if outcome is None else str(Outcome.FAILURE if outcome is Outcome.SUCCESS and data.get("error") else outcome)
    )


def filter_of(question: Question) -> Callable[[Recorded, Any], bool] | None:
    """The question as a test on live events; None: everything passes. A call may be given by its first letters."""
    exact = [(name, getattr(question, name)) for name in ("actor", "tool", "stage") if getattr(question, name)]
    words = [word.lower() for word in question.text.split()]
    given = (question.call, question.service, question.outcome, question.mutating, question.unreadable)
    if not exact and not words and all(item is None for item in given):
        return None

    def passes(recorded: Recorded, event: Any) -> bool:
        if event is None:
            return question.unreadable is True and not exact
        if question.unreadable is True:
            return False
        data = event["data"]
        if any(data.get(name, "") != wanted for name, wanted in exact):
            return False
        if question.call is not None and not str(data.get("call", "")).startswith(question.call):
            return False
        if question.service is not None and (data.get("service") or recorded.subject.split(".")[1]) != question.service:
            return False
        if question.outcome is not None and outcome_of_data(data) != question.outcome:
            return False
        if question.mutating is not None and bool(data.get("mutating")) != question.mutating:
            return False
        if words:
            text = recorded.payload.decode("utf-8", "replace").lower()
            return all(word in text for word in words)
        return True

    return passes


def _is_token(stage: str) -> bool:
    return stage.replace("_", "").isalnum()
