"""From the stream of events into the store: what the Kubernetes and the monitoring worker saw and did. Runs beside
the tools; what goes wrong is logged and tried again, and no tool waits for it."""

import asyncio

from nats import errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from opsbus import ToolError
from opsbus.logs import Log
from opsbus_cmdb.health_facts import fact_of
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.workloads import workload_of
from opsbus_contracts.streams import CMDB_EVENTS

_BATCH = 200
_FETCH_S = 5.0
_RETRY_FIRST_S, _RETRY_MAX_S = 0.5, 15.0


async def learn_for_ever(client: Client, store: EmbeddedInventory, log: Log) -> None:
    """Read, write, then acknowledge: a batch that is not written comes again."""
    wait = _RETRY_FIRST_S
    while True:
        try:
            js = client.jetstream(timeout=5.0)
            pull = await js.pull_subscribe_bind(CMDB_EVENTS.name, CMDB_EVENTS.stream)
            try:
                while True:
                    await _batch(pull, store)
                    wait = _RETRY_FIRST_S
            finally:
                await pull.unsubscribe()
        except NotFoundError:
            log.error("the stream EVENTS or its consumer is missing: run `opsbus provision`", wait_s=wait)
        except (errors.Error, APIError, TimeoutError, OSError, ToolError) as error:
            log.warning("learning from events failed, trying again", error=type(error).__name__, wait_s=wait)
        await asyncio.sleep(wait)
        wait = min(wait * 2, _RETRY_MAX_S)


async def _batch(pull: JetStreamContext.PullSubscription, store: EmbeddedInventory) -> None:
    try:
        messages = await pull.fetch(_BATCH, timeout=_FETCH_S)
    except TimeoutError:
        return  # nothing happened
    # A NUL is no text to PostgreSQL: one such event would keep all that follow from being learned.
    sound = [message for message in messages if rb"\u0000" not in message.data]
    seen = [found for message in sound if (found := workload_of(message.subject, message.data)) is not None]
    facts = [fact for message in sound if (fact := fact_of(message.subject, message.data)) is not None]
    if seen or facts:
        await store.learn(seen, facts)
    for message in messages:
        await message.ack()
