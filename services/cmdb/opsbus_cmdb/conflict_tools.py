"""Whether a time is good for a change: the tool `cmdb_check_change_conflicts`."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.when import parse_when
from opsbus_cmdb.conflicts import ASSETS_MAX, LOOK_AHEAD, Conflict, Known, neighbours
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset


class Conflicts(BaseModel):
    """The answer: free or not, and why not."""

    free: bool = Field(description="Nothing blocks.")
    assets: list[str]
    start: datetime
    end: datetime
    conflicts: list[Conflict]
    next_free: datetime | None = Field(
        default=None, description="The first start within 30 days at which nothing blocks; null: there is none."
    )
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """What a person reads."""
        state = "is free" if self.free else "is not free"
        lines = [f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC {state} for {', '.join(self.assets)}"]
        lines += [f"- {item.line()}" for item in self.conflicts]
        if not self.free:
            lines.append(
                f"Next free start: {self.next_free:%Y-%m-%d %H:%M} UTC" if self.next_free else "None in 30 days"
            )
        return "\n".join([*lines, *self.warnings])


async def check_change_conflicts(
    ctx: Context[Inventory],
    start: Annotated[str, Field(description="RFC 3339 or now+2h.", max_length=64)],
    end: Annotated[str, Field(description="RFC 3339 or now+3h.", max_length=64)],
    assets: Annotated[
        list[str] | None, Field(description="What would be changed: ids, refs or unique names.", max_length=ASSETS_MAX)
    ] = None,
    change: Annotated[str | None, Field(description="Or a recorded change: its assets.", max_length=64)] = None,
) -> Conflicts:
    """Whether a time is free for a change: freeze and maintenance windows, other changes of the same assets, of what
    they need and of what needs them; and the next start that is free.

    Example: {"assets": ["service:shop/checkout"], "start": "now+2h", "end": "now+3h"}
    """
    now = datetime.now(UTC)
    begin, until = (parse_when(text, name, now, future=True) for text, name in ((start, "start"), (end, "end")))
    if begin >= until:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "end is not after start", hint="swap them, or give a longer time")
    if until - begin > LOOK_AHEAD:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the time is longer than 30 days", hint="check it in parts")
    inventory = ctx.state
    found = await _assets(inventory, assets or [], change)
    around, warnings = await neighbours(inventory, found)
    known = await Known.read(inventory, found, around, change, begin, max(until, now) + LOOK_AHEAD)
    warnings += known.warnings
    conflicts = known.conflicts(begin, until, now)
    free = not any(item.blocking for item in conflicts)
    return Conflicts(
        free=free,
        assets=[asset.ref for asset in found],
        start=begin,
        end=until,
        conflicts=conflicts,
        next_free=None if free else known.next_free(max(begin, now), until - begin, now),
        warnings=warnings,
        as_of=now,
        source=inventory.source,
    )


async def _assets(inventory: Inventory, keys: list[str], change: str | None) -> list[Asset]:
    if bool(keys) == bool(change):
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "give assets or a change", hint="exactly one of the two")
    if change:
        keys = (await inventory.get_change(change)).asset_refs[:ASSETS_MAX]
        if not keys:
            raise ToolError(ErrorCode.PRECONDITION_FAILED, f"{change} names no asset", hint="give assets instead")
    return [await inventory.get_asset(key) for key in keys]
