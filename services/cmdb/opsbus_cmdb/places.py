"""Assets and workloads by their place in Kubernetes, `namespace/name`: by indexes, whatever the number of either."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Text, and_, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from opsbus_cmdb import tables
from opsbus_cmdb.among import among
from opsbus_cmdb.asset_store import read_asset
from opsbus_cmdb.drift import place_of
from opsbus_cmdb.model import Asset
from opsbus_cmdb.workloads import Workload

_MOST = 5_000
"""Rows read for one question: a name that everything has cannot fill the memory."""
_EXTERNAL = {
    "postgresql": "substr(external_ids ->> 'kubernetes', strpos(external_ids ->> 'kubernetes', '/') + 1, 400)",
    "sqlite": (
        "substr(json_extract(external_ids, '$.kubernetes'),"
        " instr(json_extract(external_ids, '$.kubernetes'), '/') + 1, 400)"
    ),
}
"""As the index of revision 0005 has them, to the letter: what stands after the cluster in external_id.kubernetes."""
_WORKLOAD: ColumnElement[str] = literal_column("(namespace || '/' || name)", Text)


def place(asset: Asset) -> str:
    """``namespace/name`` of the asset's workload."""
    return "/".join(place_of(asset)[1:])


async def workloads_at(connection: AsyncConnection, places: Iterable[str]) -> list[Workload]:
    """What was last seen there, in whatever cluster."""
    wanted = sorted(set(places))
    if not wanted:
        return []
    chosen = select(tables.workload).where(among(_WORKLOAD, wanted, connection.dialect.name)).limit(_MOST)
    return [Workload.model_validate(row._mapping) for row in await connection.execute(chosen)]


async def assets_at(connection: AsyncConnection, places: Iterable[str]) -> list[Asset]:
    """The assets whose workload would be there: as their external id says, else by their own namespace and name."""
    wanted = set(places)
    found = await _candidates(connection, wanted, {name.rpartition("/")[2] for name in wanted})
    return [asset for asset in found if place(asset) in wanted]


async def assets_called(connection: AsyncConnection, names: Iterable[str], keys: Iterable[str] = ()) -> list[Asset]:
    """The assets of one of these names, by themselves or in Kubernetes, or with one of these ids or refs."""
    named, wanted = {name for name in names if name}, sorted({key for key in keys if key})
    found = await _candidates(connection, named, named)
    if wanted:
        dialect = connection.dialect.name
        table = tables.asset
        chosen = select(table).where(or_(among(table.c.id, wanted, dialect), among(table.c.ref, wanted, dialect)))
        found += [read_asset(row) for row in await connection.execute(chosen.limit(_MOST))]
    return list({asset.id: asset for asset in found}.values())


async def _candidates(connection: AsyncConnection, externals: set[str], names: set[str]) -> list[Asset]:
    if not names:
        return []
    table, dialect = tables.asset, connection.dialect.name
    external: ColumnElement[str] = literal_column(_EXTERNAL[dialect], Text)
    # Two statements: an OR of two indexes is where a planner gives up and reads everything.
    by_external = select(table).where(among(external, sorted(externals), dialect)).limit(_MOST)
    by_name = select(table).where(among(table.c.name, sorted(names), dialect))
    namespaces = {known.rpartition("/")[0] for known in externals}
    if namespaces != {""}:
        by_name = select(table).where(
            and_(among(table.c.name, sorted(names), dialect), among(table.c.namespace, sorted(namespaces), dialect))
        )
    found = [*await connection.execute(by_external), *await connection.execute(by_name.limit(_MOST))]
    return list({row.id: read_asset(row) for row in found}.values())
