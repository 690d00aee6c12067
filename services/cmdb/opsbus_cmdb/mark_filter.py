"""The filter `drift` of assets: which values there are, and the statement behind it."""

from collections.abc import Sequence

from sqlalchemy import Select, or_, select

from opsbus_cmdb import tables

FILTER = "drift"
ANY = "any"
KINDS = ("gone", "lifecycle", "release", "replicas", "status", "stale")
SEVERITIES = ("high", "medium", "low")
VALUES = (ANY, *SEVERITIES, *KINDS)


def marked(values: Sequence[str]) -> Select[tuple[str]]:
    """Ids of the assets with a mark of one of these kinds or severities; `any`: with any."""
    table = tables.drift
    chosen = select(table.c.asset_id).where(table.c.asset_id != "")
    if ANY in values:
        return chosen
    return chosen.where(or_(table.c.kind.in_(values), table.c.severity.in_(values)))
