"""The embedded backend: an inventory in SQLite or PostgreSQL. Connections, transactions and errors; the statements
stand beside."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event, func, insert, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus import ToolError
from opsbus.database import open_engine
from opsbus.owners import Owned
from opsbus_cmdb import (
    asset_store,
    change_store,
    health_facts,
    marks,
    outbox,
    owned,
    tables,
    topology_store,
    workloads,
)
from opsbus_cmdb.faults import unavailable
from opsbus_cmdb.health import Fact, Live
from opsbus_cmdb.history import asset_row
from opsbus_cmdb.inventory import AssetSlice, ChangeSlice, Group, Topology
from opsbus_cmdb.marks import Mark
from opsbus_cmdb.migrations.upgrade import migrate
from opsbus_cmdb.model import Asset, Change
from opsbus_cmdb.outbox import Telling
from opsbus_cmdb.query import AssetQuery, Cancellation, ChangeDraft, ChangeQuery, StatusChange, TopologyQuery
from opsbus_cmdb.seed import Estate
from opsbus_cmdb.workloads import Workload


def _read_widely(connection: Any, _record: Any) -> None:
    """SQLite's own cache is 2 MB, of which a search through an estate would see nothing twice."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA cache_size=-32768")  # KiB
    cursor.execute("PRAGMA mmap_size=268435456")
    cursor.close()


class EmbeddedInventory:
    """An `Inventory` in a database of our own: ``create`` before the first use, ``close`` after the last."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._engine = open_engine(url, timeout_s, foreign_keys=True)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _read_widely)
        self.source = f"cmdb (embedded, {self._engine.dialect.name})"
        self.learns = True
        """Whether events are learned from: else there are no marks, and nothing is known of live health."""
        self.on_change: Callable[[], None] | None = None
        """Called when something is due to be judged, after it was stored."""

    async def create(self) -> None:
        """Bring the schema to the newest revision."""
        try:
            await migrate(self._engine)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable("its schema was brought up to date", error) from error

    async def close(self) -> None:
        """Give the connections back."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, doing: str, *, alone: bool = False) -> AsyncIterator[AsyncConnection]:
        """``alone``: nobody else writes between what is read here and what is written; SQLite would let them."""
        try:
            async with self._engine.begin() as connection:
                if alone and self._engine.dialect.name == "sqlite":
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(doing, error) from error

    async def find_assets(
        self, query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str] = ()
    ) -> AssetSlice:
        """See Inventory."""
        async with self._transaction("assets were searched") as connection:
            return await asset_store.find(connection, query, limit, cursor, count_by)

    async def count_assets(self, query: AssetQuery, group_by: str) -> list[Group]:
        """See Inventory."""
        async with self._transaction("assets were counted") as connection:
            return await asset_store.count(connection, query, group_by)

    async def get_asset(self, key: str) -> Asset:
        """See Inventory."""
        async with self._transaction("an asset was read") as connection:
            return await asset_store.get(connection, key)

    async def topology(self, key: str, query: TopologyQuery) -> Topology:
        """See Inventory."""
        async with self._transaction("a topology was walked") as connection:
            return await topology_store.walk(connection, key, query)

    async def set_status(self, asset_id: str, change: StatusChange) -> Asset:
        """See Inventory. The record, its history row and the change's list of calls are one transaction."""
        async with self._transaction("a status was recorded") as connection:
            if change.change_id:
                await change_store.get(connection, change.change_id)
            asset = await asset_store.set_status(connection, asset_id, change)
            if change.change_id and change.call_id:
                await change_store.note_call(connection, change.change_id, change.call_id)
            await marks.note_assets(connection, [asset.id])
        self._changed()
        return asset

    async def find_changes(self, query: ChangeQuery, limit: int, cursor: str | None) -> ChangeSlice:
        """See Inventory."""
        async with self._transaction("changes were searched") as connection:
            return await change_store.find(connection, query, limit, cursor)

    async def get_change(self, number: str) -> Change:
        """See Inventory."""
        async with self._transaction("a change was read") as connection:
            return await change_store.get(connection, number)

    async def workloads(self, namespaces: list[str]) -> list[Workload] | None:
        """See Inventory."""
        async with self._transaction("workloads were read") as connection:
            return await workloads.in_namespaces(connection, namespaces)

    async def learn(self, seen: list[Workload], facts: Sequence[Fact] = ()) -> None:
        """Keep what events told of workloads and of live health; what it changes is due to be judged."""
        async with self._transaction("what events told was recorded", alone=True) as connection:
            changed = await workloads.learn(connection, seen) if seen else []
            await marks.note_workloads(connection, changed)
            await health_facts.learn(connection, list(facts), [known for known in changed if known.gone])
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    async def marks(self, ids: list[str]) -> dict[str, list[Mark]]:
        """The drift that is marked of assets, by id."""
        async with self._transaction("marks were read") as connection:
            return await marks.of_assets(connection, ids)

    async def marks_of_refs(self, refs: list[str]) -> list[Mark]:
        """The same of refs, of assets and of unrecorded workloads."""
        async with self._transaction("marks were read") as connection:
            return await marks.of_refs(connection, refs)

    async def marks_counted(self) -> dict[str, int]:
        """How many marks there are, by severity."""
        async with self._transaction("marks were counted") as connection:
            return await marks.counts(connection)

    async def live(self, assets: Sequence[Asset], now: datetime) -> dict[str, Live]:
        """How assets do right now, by id."""
        async with self._transaction("live health was read") as connection:
            return await health_facts.live(connection, assets, now)

    async def unwell(self, now: datetime) -> dict[str, Live]:
        """How those do that are down or degraded right now, by ref."""
        async with self._transaction("live health was read") as connection:
            return await health_facts.unwell(connection, now)

    async def judge(self) -> int:
        """Judge some of what is due; how many notes of changes that were, 0: none is left."""
        async with self._transaction("drift was marked", alone=True) as connection:
            return await marks.judge(connection, datetime.now(UTC))

    async def sweep(self) -> int:
        """Note what the time alone has changed. How many assets are due for it."""
        now = datetime.now(UTC)
        async with self._transaction("what grew old was looked for", alone=True) as connection:
            await health_facts.tidy(connection, now)
            return await marks.note_time(connection, now)

    async def waiting(self) -> list[Telling]:
        """Events that are still to be told, the oldest first."""
        async with self._transaction("events to tell were read") as connection:
            return await outbox.waiting(connection)

    async def told(self, ids: list[str]) -> None:
        """The stream has these events."""
        async with self._transaction("told events were taken out") as connection:
            await outbox.told(connection, ids)

    async def create_change(self, draft: ChangeDraft) -> Change:
        """See Inventory."""
        async with self._transaction("a change was recorded") as connection:
            return await change_store.create(connection, draft)

    async def cancel_change(self, number: str, cancellation: Cancellation) -> Change:
        """See Inventory."""
        async with self._transaction("a change was cancelled") as connection:
            return await change_store.cancel(connection, number, cancellation)

    async def owned(self, most: int) -> list[Owned]:
        """See Inventory."""
        async with self._transaction("owners were read") as connection:
            return await owned.read(connection, most)

    async def owners_mark(self) -> str | None:
        """See Inventory."""
        async with self._transaction("it was asked whether an asset changed") as connection:
            return await owned.mark(connection)

    async def load(self, estate: Estate) -> bool:
        """Write an estate into an empty store; False, and nothing written, when there are assets already."""
        try:
            return await self._load(estate)
        except ToolError as error:
            # Two workers that start at once: the slower one finds every key taken.
            if isinstance(error.__cause__, IntegrityError):
                return False
            raise

    async def analyze(self) -> None:
        """Let the database look at what it holds: after many rows came, its planner judges by what was there before."""
        try:
            async with self._engine.connect() as connection:
                free = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await free.execute(text("ANALYZE" if self._engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable("its tables were analyzed", error) from error

    async def _load(self, estate: Estate) -> bool:
        async with self._transaction("an estate was loaded") as connection:
            if (await connection.execute(select(func.count()).select_from(tables.asset))).scalar_one():
                return False
            ids = {asset.ref: asset.id for asset in estate.assets}
            links = [{"number": c.number, "asset_id": ids[ref]} for c in estate.changes for ref in c.asset_refs]
            rows = [
                (tables.asset, [asset_row(asset, asset.created_at) for asset in estate.assets]),
                (tables.relationship, [edge.model_dump() for edge in estate.relationships]),
                (tables.change, [change.model_dump(exclude={"asset_refs"}) for change in estate.changes]),
                (tables.change_asset, links),
                (tables.window, [window.model_dump() for window in estate.windows]),
            ]
            for table, values in rows:
                if values:
                    await connection.execute(insert(table), values)
            return True
