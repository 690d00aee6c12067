"""Wiring: the consumer beside the tool, both on one store. What they do lives in consumer.py and search_tools.py."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

# isort: off
from opsbus import nats_light, sql_light  # noqa: F401 - before nats and sqlalchemy

# isort: on
from nats.aio.client import Client
from sqlalchemy.exc import SQLAlchemyError

from opsbus import Worker, tasks
from opsbus.logs import get as get_log
from opsbus.nats_client import connect
from opsbus.personal import Persons
from opsbus.platform_audit import PlatformAudit
from opsbus.settings import SettingsError
from opsbus_audit import gaps
from opsbus_audit.call_tools import get_call, summarize_calls
from opsbus_audit.closing import Closing
from opsbus_audit.consumer import StreamConsumer
from opsbus_audit.metrics import ConsumerMetrics, StoreMetrics
from opsbus_audit.proof.part import checkpoint_signer
from opsbus_audit.proof.tree import adopt, provable
from opsbus_audit.read_tools import BUDGET_BYTES, read_events
from opsbus_audit.retention.keeper import keep
from opsbus_audit.search_tools import search_events
from opsbus_audit.settings import AuditSettings
from opsbus_audit.store import AuditStore
from opsbus_audit.verify_tool import verify_events
from opsbus_audit.workers.known import KnownWorkers
from opsbus_audit.workers.watch import WorkerWatch
from opsbus_contracts.streams import AUDIT_SINK

NAME = "audit"
READ = "audit:read"


async def run_store(made: Worker, settings: AuditSettings) -> AsyncIterator[AuditStore]:
    """The store, with the stream being read into it for as long as the worker runs."""
    if settings.shadow:
        # A candidate reads: the stream and the store are for the version in service to write.
        candidate = AuditStore(settings.database_url.get_secret_value(), settings.timeout_s)
        try:
            yield candidate
        finally:
            await candidate.close()
        return
    async with _opened(settings) as store, AsyncExitStack() as stack:
        # A connection of its own: calls are drained to their end while this one is still reading.
        client = await connect(settings, NAME, name=f"{NAME}-consumer")
        stack.push_async_callback(client.close)
        store.persons = Persons(client.jetstream(timeout=3.0))
        for part in _parts(made, settings, store, client, stack):
            await stack.enter_async_context(_background(part))
        yield store


def _parts(
    made: Worker, settings: AuditSettings, store: AuditStore, client: Client, stack: AsyncExitStack
) -> Iterator[Coroutine[None, None, None]]:
    """All that goes on beside the calls; each part ends with the worker."""
    metrics = StoreMetrics()
    yield metrics.show_on(made, settings)
    yield StreamConsumer(client, store, metrics, get_log(NAME, part="consumer"), settings.batch_max).run()
    js = client.jetstream()
    record = PlatformAudit(js, NAME)
    closing = Closing(store, js, record, metrics, settings.close_after_s, get_log(NAME, part="closing"))
    yield closing.run()
    yield gaps.watch(store, record, metrics, settings.gap_after_s, get_log(NAME, part="gaps"))
    yield keep(
        store, record, settings.retention, provable(), settings.retention_every_s, get_log(NAME, part="retention")
    )
    if settings.record_workers:
        known = KnownWorkers(store.engine, client.jetstream(timeout=3.0))
        yield WorkerWatch(client, known, get_log(NAME, part="workers")).run()
    if settings.checkpoint_key_file is not None:
        yield checkpoint_signer(made, settings, store, js).run()
    if settings.sink_url is not None:
        from opsbus_audit.sink import open_sink  # aiohttp, nine megabytes, for those who have one

        copied = ConsumerMetrics("opsbus_audit_sink")
        log = get_log(NAME, part="sink")
        sink = open_sink(settings, log)
        stack.push_async_callback(sink.close)
        yield copied.show_on(made, settings)
        yield StreamConsumer(client, sink, copied, log, settings.batch_max, AUDIT_SINK).run()


@asynccontextmanager
async def _opened(settings: AuditSettings) -> AsyncIterator[AuditStore]:
    store = AuditStore(settings.database_url.get_secret_value(), settings.timeout_s)
    try:
        await store.create()
        await adopt(store.engine)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        await store.close()
        raise SettingsError(
            f"the store cannot be opened ({type(error).__name__}); check the database behind OPSBUS_AUDIT_DATABASE_URL"
        ) from error
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await tasks.end(task)


def build() -> Worker:
    """A worker with the consumer and its tools."""
    made = Worker(
        NAME,
        version="0.1.0",
        title="Audit",
        description="The record of every call: who did what, when, and how it ended.",
        settings=AuditSettings,
    )
    made.lifespan(lambda settings: run_store(made, settings))
    made.tool(name="search", permission=READ, read_only=True, title="Search the audit record")(search_events)
    made.tool(name="get_call", permission=READ, read_only=True, title="One call, step by step")(get_call)
    made.tool(name="summarize", permission=READ, read_only=True, title="Who did what to which system")(summarize_calls)
    made.tool(
        name="read_events", permission=READ, read_only=True, budget_bytes=BUDGET_BYTES, title="The record, in order"
    )(read_events)
    made.tool(name="verify", permission=READ, read_only=True, title="Verify the record")(verify_events)
    return made


worker = build()
service = worker.service(order=10, needs=["nats"])
