"""Wiring: which inventory, which tools, resources and prompts. What they do lives in the modules named here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# isort: off
from opsbus import sql_light  # noqa: F401 - before sqlalchemy

# isort: on
from opsbus import ToolError, Worker, tasks
from opsbus.logs import get as get_log
from opsbus.nats_client import close, connect
from opsbus.settings import SettingsError
from opsbus_cmdb import prompts, seed
from opsbus_cmdb.asset_tools import asset_record, assets_overview, query_assets
from opsbus_cmdb.change_tools import get_change_records
from opsbus_cmdb.change_write_tools import cancel_change, create_change
from opsbus_cmdb.conflict_tools import check_change_conflicts
from opsbus_cmdb.drift_tools import detect_drift
from opsbus_cmdb.impact_tools import get_impact
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.keeper import Keeper
from opsbus_cmdb.learning import learn_for_ever
from opsbus_cmdb.marks import ASSETS_URI
from opsbus_cmdb.owner_tools import who_owns
from opsbus_cmdb.owners_told import telling
from opsbus_cmdb.settings import CmdbSettings
from opsbus_cmdb.status_tools import update_asset_status
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.topology_tools import get_service_topology

NAME = "cmdb"
READ = "cmdb:read"
WRITE = "cmdb:write"


async def open_inventory(settings: CmdbSettings) -> AsyncIterator[Inventory]:
    """The backend the settings name: a CMDB over HTTP, NetBox, or the embedded store, filled when it is empty and
    a seed is set. What speaks to another CMDB brings aiohttp, nine megabytes: loaded by who has one."""
    if settings.url:
        from opsbus_cmdb.http_inventory import HttpInventory

        key = settings.api_key.get_secret_value()
        async with (
            HttpInventory(settings.url, key, settings.timeout_s, settings.body_bytes_max) as remote,
            telling(settings, remote),
        ):
            yield remote
        return
    if settings.netbox_url:
        from opsbus_cmdb.netbox.inventory import NetBoxInventory

        try:
            netbox = await NetBoxInventory.named_by(settings).__aenter__()
        except ValueError as error:
            raise SettingsError(str(error)) from error
        try:
            async with telling(settings, netbox):
                yield netbox
        finally:
            await netbox.__aexit__(None, None, None)
        return
    async with _filled_store(settings) as store, telling(settings, store):
        store.learns = settings.learn
        if settings.shadow or not settings.learn:
            yield store
            return
        # A connection of its own: calls are drained to their end while this one is still reading.
        client = await connect(settings, NAME, name=f"{NAME}-learning")
        learning = asyncio.create_task(learn_for_ever(client, store, get_log(NAME, part="learning")))
        keeping = asyncio.create_task(Keeper(client, store, get_log(NAME, part="keeping")).run())
        try:
            yield store
        finally:
            await tasks.end(learning, keeping)
            await close(client)


@asynccontextmanager
async def _filled_store(settings: CmdbSettings) -> AsyncIterator[EmbeddedInventory]:
    store = EmbeddedInventory(settings.database_url.get_secret_value(), settings.timeout_s)
    try:
        await store.create()
        if settings.seed:
            await store.load(seed.estate(settings.seed))
    except ToolError as error:
        await store.close()
        raise SettingsError(f"{error.message}; {error.hint}") from error
    try:
        yield store
    finally:
        await store.close()


def build() -> Worker:
    """A worker with everything the CMDB offers."""
    made = Worker(
        NAME,
        version="0.1.0",
        title="CMDB",
        description="Assets, their owners, states and dependencies, and the changes made to them.",
        settings=CmdbSettings,
    )
    made.lifespan(open_inventory)
    made.tool(permission=READ, read_only=True, title="Find assets")(query_assets)
    made.tool(permission=READ, read_only=True, title="Service topology")(get_service_topology)
    made.tool(permission=READ, read_only=True, title="Change records")(get_change_records)
    made.tool(permission=READ, read_only=True, title="Conflicts of a change")(check_change_conflicts)
    made.tool(permission=READ, read_only=True, title="What would be hit")(get_impact)
    made.tool(permission=READ, read_only=True, title="Who owns it")(who_owns)
    made.tool(permission=READ, read_only=True, title="What runs against what is recorded")(detect_drift)
    made.tool(permission=WRITE, destructive=True, title="Set an asset's status", plans=True)(update_asset_status)
    made.tool(permission=WRITE, title="Record a change", plans=True)(create_change)
    made.tool(permission=WRITE, destructive=True, title="Cancel a change", plans=True)(cancel_change)
    made.resource(
        ASSETS_URI, name="assets", permission=READ, mime_type="application/json", subscribable=True, title="Assets"
    )(assets_overview)
    made.resource(ASSETS_URI + "/{id}", name="asset", permission=READ, mime_type="application/json", title="Asset")(
        asset_record
    )
    brief = made.prompt(permission=READ, title="Impact brief")(prompts.impact_brief)
    brief.completion("service")(prompts.complete_service)
    brief.completion("change")(prompts.complete_change)
    return made


worker = build()
service = worker.service(order=20, needs=["nats"])
