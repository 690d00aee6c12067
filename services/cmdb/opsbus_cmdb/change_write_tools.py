"""Recording and cancelling a change: the tools `cmdb_create_change` and `cmdb_cancel_change`, from plan to proof."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from opsbus import Change as PlannedChange
from opsbus import Context, ErrorCode, Plan, ToolError, Undo
from opsbus.when import parse_when
from opsbus_cmdb import radius
from opsbus_cmdb.conflicts import ASSETS_MAX, LOOK_AHEAD, Conflict, Known, neighbours
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset, Change, ChangeState, ChangeType, Lifecycle, Risk
from opsbus_cmdb.query import Cancellation, ChangeDraft

CREATE, CANCEL = "cmdb_create_change", "cmdb_cancel_change"
BACKDATED_MAX = timedelta(hours=24)
"""An emergency is often recorded after it began."""
_CANCELLABLE = (ChangeState.NEW, ChangeState.ASSESS, ChangeState.AUTHORIZE, ChangeState.SCHEDULED)
_SHOWN_CONFLICTS = 20

Cmdb = Context[Inventory]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]


class ChangeWrite(BaseModel):
    """What was done, or with `dry_run` what would be."""

    applied: bool = Field(description="False: a dry run, nothing was recorded.")
    plan: Plan
    change: Change | None = Field(default=None, description="The record; null: there is none yet.")
    conflicts: list[Conflict] = Field(default_factory=list, description="What speaks against its time.")
    next_free: datetime | None = Field(default=None, description="The first start at which nothing blocks.")
    undo: Undo | None = Field(default=None, description="The call that takes it back; null: there is no way back.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """What a person reads."""
        lines = ["Done" if self.applied else "Dry run, nothing was recorded"]
        if self.change is not None:
            lines.append(f"{self.change.number} {self.change.state.value}: {self.change.title}")
        lines += [self.plan.to_text()]
        if self.next_free is not None:
            lines.append(f"Next free start: {self.next_free:%Y-%m-%d %H:%M} UTC")
        return "\n".join(lines)


async def create_change(
    ctx: Cmdb,
    title: Annotated[str, Field(description="What is done, in one line.", min_length=3, max_length=400)],
    assets: Annotated[
        list[str],
        Field(description="What is changed: ids, refs or unique names.", min_length=1, max_length=ASSETS_MAX),
    ],
    start: Annotated[str, Field(description="RFC 3339, with its zone.", max_length=64)],
    end: Annotated[str, Field(description="RFC 3339, with its zone.", max_length=64)],
    reason: Annotated[str, Field(description="Why; kept in the record.", min_length=3, max_length=2_000)],
    type: Annotated[
        ChangeType, Field(description="standard: pre-approved routine of low risk; emergency: cannot wait.")
    ] = ChangeType.NORMAL,
    risk: Annotated[Risk, Field(description="Of the change itself.")] = Risk.MODERATE,
    description: Annotated[str, Field(description="Details.", max_length=5_000)] = "",
    plans: Annotated[
        dict[str, Text] | None, Field(description="By name: implementation, test, backout.", max_length=10)
    ] = None,
    owner_team: Annotated[
        str | None, Field(description="Who carries it out; default: the owner of the assets.", max_length=128)
    ] = None,
    dry_run: Annotated[bool, Field(description="Only show the plan.")] = False,
    confirm: Annotated[str | None, Field(description="The token of a plan that was shown.", max_length=200)] = None,
    idempotency_key: Annotated[
        str | None, Field(description="A repeated key returns the first outcome.", max_length=200)
    ] = None,
) -> ChangeWrite:
    """Record a change, after a confirmation. The plan shows who feels it, and every freeze, overlapping change and
    missed maintenance window; to find a time first use cmdb_check_change_conflicts.

    A standard change is scheduled at once if nothing blocks its time, an emergency goes to authorize, all else starts
    as new. Pass the number as change_id to writes made under it.
    Example: {"title": "Raise memory of cart", "assets": ["service:shop/cart"], "start": "2026-12-01T20:00:00Z",
    "end": "2026-12-01T21:00:00Z", "reason": "OOM kills"}
    """
    inventory, now = ctx.state, datetime.now(UTC)
    begin, until = _window(start, end, type, now)
    if type is ChangeType.STANDARD and risk is not Risk.LOW:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"a standard change is a routine of low risk, not {risk.value}",
            hint="make it type normal, or risk low if that is true",
        )
    found = await _assets(inventory, assets)
    known, conflicts, warnings = await _conflicts(inventory, found, begin, until, now, type)
    blocked = any(item.blocking for item in conflicts)
    draft = ChangeDraft(
        title=title,
        description=f"{reason}\n\n{description}".strip(),
        type=type,
        state=_first_state(type, blocked),
        risk=risk,
        asset_refs=[asset.ref for asset in found],
        requested_by=ctx.identity.sub[:200],
        owner_team=owner_team if owner_team is not None else _owner(found),
        planned_start=begin,
        planned_end=until,
        plans=dict(plans or {}),
        call_id=ctx.call_id,
    )
    plan = await _plan(inventory, draft, found, conflicts, warnings)
    next_free = known.next_free(max(begin, now), until - begin, now) if blocked else None
    answer = ChangeWrite(
        applied=False,
        plan=plan,
        conflicts=conflicts,
        next_free=next_free,
        warnings=plan.warnings,
        as_of=now,
        source=inventory.source,
    )
    if dry_run:
        return answer
    await ctx.confirm(plan, version=_seen(found, conflicts), confirm=confirm)
    written = await inventory.create_change(draft)
    after = await _verified(inventory, written.number, draft)
    await _announce(ctx, "change_created", after, reason)
    undo = Undo(tool=CANCEL, arguments={"number": after.number, "reason": f"undo: {reason}"[:2_000]})
    return answer.model_copy(update={"applied": True, "change": after, "undo": undo, "as_of": datetime.now(UTC)})


async def cancel_change(
    ctx: Cmdb,
    number: Annotated[str, Field(description="CHG...", min_length=1, max_length=64)],
    reason: Annotated[str, Field(description="Why; kept in the record.", min_length=3, max_length=2_000)],
    dry_run: Annotated[bool, Field(description="Only show the plan.")] = False,
    confirm: Annotated[str | None, Field(description="The token of a plan that was shown.", max_length=200)] = None,
    idempotency_key: Annotated[
        str | None, Field(description="A repeated key returns the first outcome.", max_length=200)
    ] = None,
) -> ChangeWrite:
    """Cancel a change that has not begun, after a confirmation. Takes back cmdb_create_change; itself final.

    Example: {"number": "CHG0004131", "reason": "the new kernel is withdrawn"}
    """
    inventory = ctx.state
    before = await inventory.get_change(number)
    if before.state not in _CANCELLABLE or before.actual_start is not None:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{before.number} is {before.state.value}"
            + (" and has begun" if before.actual_start is not None else "")
            + ": it cannot be cancelled any more",
            hint="only a change that has not begun is cancelled: " + ", ".join(state.value for state in _CANCELLABLE),
        )
    warnings = ["a cancelled change stays cancelled: to take this back, record it anew with cmdb_create_change"]
    worked = before.tool_call_ids[1:]
    if worked:
        warnings.append(f"{len(worked)} calls were made under it already; cancelling does not take them back")
    plan = Plan(
        summary=f"Cancel {before.number}: {before.title}",
        changes=[PlannedChange(path="state", before=before.state.value, after=ChangeState.CANCELLED.value)],
        blast_radius=f"its slot on {', '.join(before.asset_refs[:8]) or 'no asset'} becomes free",
        warnings=warnings,
    )
    answer = ChangeWrite(
        applied=False, plan=plan, change=before, warnings=warnings, as_of=datetime.now(UTC), source=inventory.source
    )
    if dry_run:
        return answer
    await ctx.confirm(plan, version=before.updated_at.isoformat(), confirm=confirm)
    wanted = Cancellation(reason=reason, actor=ctx.identity.sub, seen=before.updated_at, call_id=ctx.call_id)
    await inventory.cancel_change(before.number, wanted)
    after = await inventory.get_change(before.number)
    if after.state is not ChangeState.CANCELLED:
        raise _not_kept(after.number, f"it still reads {after.state.value}")
    await _announce(ctx, "change_cancelled", after, reason)
    return answer.model_copy(update={"applied": True, "change": after, "as_of": datetime.now(UTC)})


def _window(start: str, end: str, kind: ChangeType, now: datetime) -> tuple[datetime, datetime]:
    moments = []
    for text, name in ((start, "start"), (end, "end")):
        moment = parse_when(text, name, now, future=True)
        if "T" not in text:
            # A span moves with the clock: what is written would not be what was confirmed.
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"{name}: {text!r} moves with the clock or names no hour",
                hint=f"write the moment itself: {moment.replace(microsecond=0).isoformat()}",
            )
        moments.append(moment)
    begin, until = moments
    if begin >= until:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "end is not after start", hint="swap them, or give a longer time")
    if until - begin > LOOK_AHEAD:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the time is longer than 30 days", hint="record it in parts")
    back = BACKDATED_MAX if kind is ChangeType.EMERGENCY else timedelta(minutes=5)
    if begin < now - back:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"start is past: it is {now:%Y-%m-%dT%H:%M:%SZ}",
            hint="give a later start; only an emergency may be recorded afterwards, for 24 hours",
        )
    return begin, until


async def _assets(inventory: Inventory, keys: list[str]) -> list[Asset]:
    found = {asset.id: asset for asset in [await inventory.get_asset(key) for key in keys]}
    gone = [asset.ref for asset in found.values() if asset.lifecycle is Lifecycle.RETIRED]
    if gone:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{gone[0]} is retired: nothing is changed on it any more",
            hint="leave it out, or name the asset that took its place",
        )
    return list(found.values())


async def _conflicts(
    inventory: Inventory, assets: list[Asset], begin: datetime, until: datetime, now: datetime, kind: ChangeType
) -> tuple[Known, list[Conflict], list[str]]:
    beside, warnings = await neighbours(inventory, assets)
    known = await Known.read(inventory, assets, beside, None, begin, max(until, now) + LOOK_AHEAD)
    found = known.conflicts(begin, until, now)
    if kind is ChangeType.EMERGENCY:
        found = [item for item in found if item.kind != "in_the_past"]  # recorded afterwards, as emergencies are
    return known, found[:_SHOWN_CONFLICTS], warnings + known.warnings


def _first_state(kind: ChangeType, blocked: bool) -> ChangeState:
    if kind is ChangeType.EMERGENCY:
        return ChangeState.AUTHORIZE
    if kind is ChangeType.STANDARD:
        return ChangeState.ASSESS if blocked else ChangeState.SCHEDULED
    return ChangeState.NEW


def _owner(assets: list[Asset]) -> str:
    teams = {asset.owner_team for asset in assets}
    return teams.pop() if len(teams) == 1 else ""


async def _plan(
    inventory: Inventory, draft: ChangeDraft, assets: list[Asset], conflicts: list[Conflict], warnings: list[str]
) -> Plan:
    others, truncated = await radius.dependents_of(inventory, assets)
    notes = [item.line() for item in conflicts] + warnings
    if not draft.owner_team:
        notes.append("no team is named to carry it out: the assets belong to several, or to nobody")
    if draft.type is not ChangeType.STANDARD and not draft.plans.get("backout"):
        notes.append("it has no backout plan")
    values = {
        "state": draft.state.value,
        "type": draft.type.value,
        "risk": draft.risk.value,
        "planned_start": draft.planned_start.isoformat(),
        "planned_end": draft.planned_end.isoformat(),
        "asset_refs": draft.asset_refs,
        "owner_team": draft.owner_team,
    }
    return Plan(
        summary=f"Record a {draft.type.value} change of {', '.join(draft.asset_refs[:4])}"
        + (f" and {len(draft.asset_refs) - 4} more" if len(draft.asset_refs) > 4 else "")
        + f": {draft.title}",
        changes=[PlannedChange(path=name, after=value) for name, value in values.items()],
        blast_radius=radius.told(others, truncated),
        undo=Undo(tool=CANCEL, arguments={"number": "<the number it gets>", "reason": "<why>"}),
        warnings=notes,
    )


def _seen(assets: list[Asset], conflicts: list[Conflict]) -> str:
    """What the confirmation holds for: the assets as they are, and what spoke against the time."""
    facts = sorted(f"{asset.id} {asset.version}" for asset in assets)
    facts += sorted(f"{item.kind} {item.what} {item.start} {item.end}" for item in conflicts)
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


async def _verified(inventory: Inventory, number: str, draft: ChangeDraft) -> Change:
    after = await inventory.get_change(number)
    for name in ("title", "type", "risk", "planned_start", "planned_end"):
        if getattr(after, name) != getattr(draft, name):
            raise _not_kept(number, f"{name} reads {getattr(after, name)}")
    if set(after.asset_refs) != set(draft.asset_refs):
        raise _not_kept(number, "it lists other assets")
    return after


def _not_kept(number: str, how: str) -> ToolError:
    return ToolError(
        ErrorCode.BACKEND_ERROR,
        f"the CMDB took the write of {number}, but {how}",
        hint="look at it with cmdb_get_change_records; the CMDB may have a rule that changed it",
    )


async def _announce(ctx: Cmdb, kind: str, change: Change, reason: str) -> None:
    facts = {
        "number": change.number,
        "title": change.title,
        "type": change.type.value,
        "state": change.state.value,
        "risk": change.risk.value,
        "asset_refs": change.asset_refs,
        "planned_start": change.planned_start.isoformat() if change.planned_start else None,
        "planned_end": change.planned_end.isoformat() if change.planned_end else None,
        "reason": reason,
        "actor": ctx.identity.sub,
        "call": ctx.call_id,
    }
    await ctx.emit(kind, facts, subject=change.number)
