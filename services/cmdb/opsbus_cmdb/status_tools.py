"""Changing a status: the tool `cmdb_update_asset_status`, from plan to proof. Which change is allowed stands in
lifecycle.py."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from opsbus import Change as PlannedChange
from opsbus import Context, ErrorCode, Plan, ToolError, Undo
from opsbus_cmdb import radius
from opsbus_cmdb.calendar import covers
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.lifecycle import StatusValue, check_transition, reversible
from opsbus_cmdb.marks import ASSETS_URI
from opsbus_cmdb.model import Asset, Change, ChangeState, Lifecycle, WindowKind
from opsbus_cmdb.overlay import keeper
from opsbus_cmdb.query import ChangeQuery, StatusChange
from opsbus_cmdb.views import AssetView, view

TOOL = "cmdb_update_asset_status"
_OVER = (ChangeState.CLOSED, ChangeState.CANCELLED)
_READY = (ChangeState.SCHEDULED, ChangeState.IMPLEMENT, ChangeState.REVIEW)

Cmdb = Context[Inventory]


class StatusUpdate(BaseModel):
    """What was done, or with `dry_run` what would be."""

    applied: bool = Field(description="False: a dry run, nothing was changed.")
    plan: Plan
    asset: AssetView = Field(description="The record as it is now.")
    undo: Undo | None = Field(default=None, description="The call that takes it back; null: there is no way back.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """What a person reads."""
        head = "Done" if self.applied else "Dry run, nothing was changed"
        return "\n".join(
            [f"{head}: {self.asset.line()}, version {self.asset.version}", self.plan.to_text(), *self.warnings]
        )


async def update_asset_status(
    ctx: Cmdb,
    id: Annotated[
        str, Field(description="Id, ref (kind:namespace/name) or unique name.", min_length=1, max_length=400)
    ],
    status: Annotated[
        StatusValue,
        Field(
            description="Operational status (operational, degraded, down, maintenance) or lifecycle (planned,"
            " deploying, active, retiring, retired); the value says which of the two fields is meant."
        ),
    ],
    reason: Annotated[str, Field(description="Why; kept in the asset's history.", min_length=3, max_length=2_000)],
    expected_version: Annotated[
        int | None, Field(ge=1, description="The version you looked at; refused when the asset has changed since.")
    ] = None,
    change_id: Annotated[
        str | None, Field(description="The change record this belongs to: CHG...", min_length=1, max_length=64)
    ] = None,
    dry_run: Annotated[bool, Field(description="Only show the plan.")] = False,
    confirm: Annotated[str | None, Field(description="The token of a plan that was shown.", max_length=200)] = None,
    idempotency_key: Annotated[
        str | None, Field(description="A repeated key returns the first outcome.", max_length=200)
    ] = None,
) -> StatusUpdate:
    """Set the operational status or the lifecycle of an asset, after a confirmation.

    Only transitions of the state machine are allowed; a refused one names those that are. The answer holds the call
    that
    undoes the change, where there is a way back.
    """
    inventory = ctx.state
    before = await inventory.get_asset(id)
    if expected_version is not None and expected_version != before.version:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{before.ref} is at version {before.version}, not {expected_version}",
            hint="look at it again with cmdb_query_assets, and decide on what it is now",
            details={"current_version": before.version, "expected_version": expected_version},
        )
    field = check_transition(before, status)
    change = await _usable_change(inventory, change_id)
    plan = await _plan(inventory, before, field, status, reason, change)
    if dry_run:
        return _answer(inventory, before, plan, applied=False)
    await ctx.confirm(plan, version=str(before.version), confirm=confirm)
    wanted = StatusChange(
        field=field,
        value=status,
        expected_version=before.version,
        reason=reason,
        actor=ctx.identity.sub,
        call_id=ctx.call_id,
        change_id=change_id or "",
    )
    written = await inventory.set_status(before.id, wanted)
    after = await _verified(inventory, written, field, status)
    await _announce(ctx, before, after, wanted)
    return _answer(inventory, after, plan, applied=True)


async def _usable_change(inventory: Inventory, change_id: str | None) -> Change | None:
    if change_id is None:
        return None
    change = await inventory.get_change(change_id)
    if change.state in _OVER:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{change.number} is {change.state.value}: nothing more can be done under it",
            hint="name an open change (cmdb_get_change_records lists them), or leave change_id out",
        )
    return change


async def _plan(inventory: Inventory, asset: Asset, field: str, value: str, reason: str, change: Change | None) -> Plan:
    before = getattr(asset, field).value
    others, truncated = await radius.dependents_of(inventory, [asset])
    warnings = await _warnings(inventory, asset, value, others, change)
    undo = None
    if reversible(asset, value):
        arguments: dict[str, Any] = {"id": asset.id, "status": before, "reason": f"undo: {reason}"[:2_000]}
        arguments["expected_version"] = asset.version + 1
        if change is not None:
            arguments["change_id"] = change.number
        undo = Undo(tool=TOOL, arguments=arguments)
    return Plan(
        summary=f"Set {field} of {asset.ref} from {before} to {value}",
        changes=[
            PlannedChange(path=field, before=before, after=value),
            PlannedChange(path="version", before=asset.version, after=asset.version + 1),
        ],
        blast_radius=radius.told(others, truncated),
        undo=undo,
        warnings=warnings,
    )


async def _warnings(
    inventory: Inventory, asset: Asset, value: str, dependents: list[Asset], change: Change | None
) -> list[str]:
    warnings = []
    if change is not None and asset.ref not in change.asset_refs:
        warnings.append(f"{change.number} does not list {asset.ref} among the assets it touches")
    if change is not None and change.state not in _READY:
        warnings.append(f"{change.number} is only in state {change.state.value}: it has not been approved for work")
    warnings += await _freezes(inventory, asset)
    alive = [other for other in dependents if other.lifecycle is Lifecycle.ACTIVE]
    if value in {Lifecycle.RETIRING, Lifecycle.RETIRED} and alive:
        warnings.append(f"{len(alive)} active assets still need it")
    return warnings


async def _freezes(inventory: Inventory, asset: Asset) -> list[str]:
    now = datetime.now(UTC)
    try:
        nearby = await inventory.find_changes(ChangeQuery(assets=[asset.ref], since=now, until=now), 1, None)
    except ToolError as error:
        # A CMDB may keep no calendar. Who confirms must know that nobody looked.
        if error.code is not ErrorCode.BACKEND_ERROR:
            raise
        return [f"freeze windows could not be checked: {error.message}"]
    return [
        f"the freeze '{window.title}' holds until {window.end:%Y-%m-%d %H:%M} UTC"
        for window in nearby.windows
        if window.kind is WindowKind.FREEZE and covers(window, asset)
    ]


async def _verified(inventory: Inventory, written: Asset, field: str, value: str) -> Asset:
    now = await inventory.get_asset(written.id)
    # A higher version is a later write of somebody else, which is no fault of this one.
    if now.version == written.version and getattr(now, field).value != value:
        raise ToolError(
            ErrorCode.BACKEND_ERROR,
            f"the CMDB took the change of {now.ref}, but {field} still reads {getattr(now, field).value}",
            hint="look at the asset with cmdb_query_assets; the CMDB may have a rule that put it back",
        )
    return now


async def _announce(ctx: Cmdb, before: Asset, after: Asset, change: StatusChange) -> None:
    facts = {
        "id": after.id,
        "ref": after.ref,
        "field": change.field,
        "before": getattr(before, change.field).value,
        "after": change.value,
        "version": after.version,
        "reason": change.reason,
        "change_id": change.change_id,
        "actor": change.actor,
        "call": change.call_id,
    }
    await ctx.emit("asset_updated", facts, subject=after.ref)
    kept = keeper(ctx.state)
    if kept is not None and kept.on_change is not None:
        return  # the keeper tells of the resources, when it has judged what the change means
    await ctx.resource_updated(ASSETS_URI)
    await ctx.resource_updated(f"{ASSETS_URI}/{after.id}")


def _answer(inventory: Inventory, asset: Asset, plan: Plan, *, applied: bool) -> StatusUpdate:
    return StatusUpdate(
        applied=applied,
        plan=plan,
        asset=view(asset),
        undo=plan.undo if applied else None,
        warnings=plan.warnings,
        as_of=datetime.now(UTC),
        source=inventory.source,
    )
