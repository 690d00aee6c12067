"""What speaks against changing assets at a time: freezes, maintenance windows, other changes. Rules and reading; the
tools stand beside."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from opsbus import ErrorCode, ToolError
from opsbus_cmdb.calendar import covers
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset, Change, ChangeState, Window, WindowKind
from opsbus_cmdb.query import ChangeQuery, Direction, TopologyQuery

ASSETS_MAX = 20
"""Assets of one change that are looked around, at most."""
LOOK_AHEAD = timedelta(days=30)
"""How far a free time is looked for, and the longest time that is judged."""
_AROUND_NODES = 100
_CHANGES_MAX = 100
_OPEN = [state for state in ChangeState if state not in {ChangeState.CLOSED, ChangeState.CANCELLED}]

Kind = Literal["freeze", "same_asset", "dependency", "dependent", "outside_maintenance", "in_the_past"]


class Conflict(BaseModel):
    """Something that speaks against the time."""

    kind: Kind = Field(
        description="freeze; same_asset: another change of it; dependency: a change of what it needs; dependent: of"
        " what needs it; outside_maintenance: it has a window, and this is outside; in_the_past."
    )
    blocking: bool = Field(description="False: somebody should know, no more.")
    what: str = Field(description="Number of the change, or id of the window.")
    title: str
    start: datetime | None
    end: datetime | None
    assets: list[str] = Field(default_factory=list)

    def line(self) -> str:
        """One line a person reads."""
        when = f" from {self.start:%Y-%m-%d %H:%M}" if self.start else ""
        when += f" until {self.end:%Y-%m-%d %H:%M}" if self.end else ""
        return f"{'blocks' if self.blocking else 'note'}: {self.kind} {self.what} {self.title}{when}"


async def neighbours(inventory: Inventory, assets: list[Asset]) -> tuple[dict[str, Kind], list[str]]:
    """Refs next to the assets, and on which side."""
    own = {asset.ref for asset in assets}
    sides: dict[str, Kind] = {}
    truncated = False
    for asset in assets:
        for direction, kind in ((Direction.DEPENDENCIES, "dependency"), (Direction.DEPENDENTS, "dependent")):
            query = TopologyQuery(direction=direction, depth=1, nodes_max=_AROUND_NODES)
            found = await inventory.topology(asset.id, query)
            truncated = truncated or found.truncated
            for node in found.nodes:
                if node.asset.ref not in own:
                    side: Kind = "dependency" if kind == "dependency" else "dependent"
                    sides.setdefault(node.asset.ref, side)
    return sides, [f"only {_AROUND_NODES} neighbours of an asset were looked at"] if truncated else []


class Known:
    """Changes and windows of the time ahead, asked once; times are tried against them."""

    def __init__(
        self, assets: list[Asset], around: dict[str, Kind], changes: list[Change], windows: list[Window]
    ) -> None:
        self._own = {asset.ref for asset in assets}
        self._around = around
        self._changes = changes
        self._windows = [window for window in windows if any(covers(window, asset) for asset in assets)]
        self.warnings: list[str] = []

    @classmethod
    async def read(
        cls,
        inventory: Inventory,
        assets: list[Asset],
        around: dict[str, Kind],
        change: str | None,
        begin: datetime,
        until: datetime,
    ) -> "Known":
        refs = [*(asset.ref for asset in assets), *around]
        query = ChangeQuery(assets=refs, since=begin, until=until, states=_OPEN)
        found = await inventory.find_changes(query, _CHANGES_MAX, None)
        if found.unknown:
            raise ToolError(
                ErrorCode.PRECONDITION_FAILED,
                f"whether a time is free is not known: {found.unknown}",
                hint="ask whoever keeps the change calendar",
            )
        made = cls(assets, around, [item for item in found.items if item.number != change], found.windows)
        if found.next_cursor:
            made.warnings.append(f"only {_CHANGES_MAX} of {found.total} changes of that time were looked at")
        return made

    def conflicts(self, begin: datetime, until: datetime, now: datetime) -> list[Conflict]:
        """What speaks against a time, the blocking first."""
        found = (
            [Conflict(kind="in_the_past", blocking=True, what="", title="it has begun already", start=begin, end=until)]
            if begin < now
            else []
        )
        maintenance = [window for window in self._windows if window.kind is WindowKind.MAINTENANCE]
        found += [
            _of_window("freeze", True, window)
            for window in self._windows
            if window.kind is WindowKind.FREEZE and window.start < until and begin < window.end
        ]
        if maintenance and not any(window.start <= begin and until <= window.end for window in maintenance):
            found += [_of_window("outside_maintenance", False, window) for window in maintenance[:3]]
        found += [item for change in self._changes if (item := self._of_change(change, begin, until)) is not None]
        return sorted(found, key=lambda item: not item.blocking)

    def next_free(self, begin: datetime, length: timedelta, now: datetime) -> datetime | None:
        """The first start from ``begin`` on at which nothing blocks; only ends of what blocks can be one."""
        last = begin + LOOK_AHEAD
        tried = begin
        while tried <= last:
            blocking = [item for item in self.conflicts(tried, tried + length, now) if item.blocking]
            if not blocking:
                return tried
            ends = [item.end for item in blocking]
            if any(end is None for end in ends):
                return None  # a change without an end: nobody knows
            tried = max(end for end in ends if end is not None)
        return None

    def _of_change(self, change: Change, begin: datetime, until: datetime) -> Conflict | None:
        starts = change.actual_start or change.planned_start
        ends = change.actual_end or change.planned_end
        if starts is None or starts >= until or (ends is not None and ends <= begin):
            return None
        touched = set(change.asset_refs)
        near = sorted(touched & self._around.keys())
        kind: Kind = "same_asset" if touched & self._own else self._around[near[0]]
        return Conflict(
            kind=kind,
            blocking=kind != "dependent",
            what=change.number,
            title=change.title,
            start=starts,
            end=ends,
            assets=sorted(touched & self._own) or near,
        )


def _of_window(kind: Kind, blocking: bool, window: Window) -> Conflict:
    return Conflict(
        kind=kind, blocking=blocking, what=window.id, title=window.title, start=window.start, end=window.end
    )
