"""What runs beside the tools: owners read from the bus, alerts told on it. No tool waits for either."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from opsbus import Worker, tasks
from opsbus.logs import Log
from opsbus.logs import get as get_log
from opsbus.nats_client import close, connect
from opsbus.owners import OwnersReader
from opsbus_monitoring.alert_owner import AlertOwners
from opsbus_monitoring.alert_watch import READ_WITHIN_S, SERVICE, AlertWatch, WatchMetrics
from opsbus_monitoring.backends import Backends, alertmanager_of
from opsbus_monitoring.settings import MonitoringSettings

_LOOK_EVERY_S = 0.1


@asynccontextmanager
async def listening(worker: Worker, settings: MonitoringSettings, backends: Backends) -> AsyncIterator[None]:
    """Owners are known and alerts are watched while the block runs, as far as the settings want it."""
    watches = settings.alert_watch and bool(settings.alertmanager_url)
    if settings.shadow or not (settings.read_owners or watches):
        yield
        return
    log = get_log(SERVICE, part="events")
    # A connection of its own: calls are drained to their end while this one is still reading.
    client = await connect(settings, SERVICE, name=f"{SERVICE}-events")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close, client)
        owners = OwnersReader(client, SERVICE)
        if settings.read_owners:
            backends.whose = AlertOwners(owners.known, settings.service_label, settings.owner_labels)
            await owners.reader.start()
            stack.push_async_callback(owners.reader.stop)
            _run(stack, _say_without(owners, log))
        if watches:
            metrics = WatchMetrics()
            alertmanager = alertmanager_of(settings)
            stack.push_async_callback(alertmanager.close)
            watch = AlertWatch(client, alertmanager, backends.whose, log, metrics, settings.alert_settle_s)
            _run(stack, _show(metrics, worker, settings))
            _run(stack, _watch(watch, owners if settings.read_owners else None, settings.alert_watch_s))
        yield


def _run(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    stack.push_async_callback(tasks.end, asyncio.create_task(work))


async def _watch(watch: AlertWatch, owners: OwnersReader | None, every_s: float) -> None:
    if owners is not None:
        await owners.reader.ready(READ_WITHIN_S)  # so that the first alerts told have theirs
    await watch.run(every_s)


async def _say_without(owners: OwnersReader, log: Log) -> None:
    """One line, where there is nobody to say who owns what."""
    if await owners.reader.ready(READ_WITHIN_S) and owners.known.listing is None:
        log.info("the stream holds no listing of owners: those of alerts are null until the CMDB worker tells one")


async def _show(metrics: WatchMetrics, worker: Worker, settings: MonitoringSettings) -> None:
    """The metrics join those of the instance that runs with ``settings``, once it is there."""
    while True:
        for runtime in worker.runtimes:
            if runtime.settings is settings:
                runtime.metrics.registry.register(metrics)
                return
        await asyncio.sleep(_LOOK_EVERY_S)
