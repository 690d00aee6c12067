"""monitoring_expire_silence."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from opsbus import Context, ErrorCode, Executed, Plan, ToolError, Undo
from opsbus.toolerror import near
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.alertmodels import AlertRow
from opsbus_monitoring.arguments import Confirm, DryRun, IdempotencyKey, Reason
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking, told
from opsbus_monitoring.silencemodels import SilenceOutcome
from opsbus_monitoring.silences import by_silence, matcher_texts, mute_changes, muting_ids, row_of, state_of
from opsbus_monitoring.tool_alerts import ALERTS_URI, gravest_first, managed_alerts


async def expire_silence(
    ctx: Context[Backends],
    silence_id: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9-]{4,64}$", description="`id` out of monitoring_list_silences.")
    ],
    reason: Reason,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: Annotated[
        str | None, Field(max_length=64, description="`version` as read before; refused when it has changed since.")
    ] = None,
) -> SilenceOutcome:
    """End a silence now, after a person confirmed the plan.

    The plan lists the alerts that will be heard again; the answer has the call that silences the same for the rest of
    the time.
    """
    alertmanager = ctx.state.alertmanager
    now = datetime.now(UTC)
    with asking():
        silence = await _one(alertmanager, silence_id)
        rows = gravest_first(await managed_alerts(alertmanager, now))
    version = str(silence.get("updatedAt", ""))
    if expected_version is not None and expected_version != version:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"the silence {silence_id} is at version {version}, not {expected_version}: it has changed since",
            hint="Read it again and decide anew.",
            details={"expected_version": expected_version, "version": version},
        )
    if state_of(silence) == "expired":
        return SilenceOutcome(outcome="unchanged", silence=row_of(silence, None, now), as_of=now)
    plan = plan_expiry(silence, rows, reason)
    if dry_run:
        return SilenceOutcome(outcome="planned", silence=row_of(silence, by_silence(rows), now), plan=plan, as_of=now)
    await ctx.confirm(plan, version=version, confirm=confirm)
    warnings = await end(alertmanager, silence_id)
    await ctx.emit(
        "silence_expired", {"silence": silence_id, "matchers": matcher_texts(silence), "reason": reason}, silence_id
    )
    await ctx.resource_updated(ALERTS_URI)
    outcome = await verify(alertmanager, silence_id)
    outcome.undo = plan.undo
    outcome.warnings = [*plan.warnings, *warnings, *outcome.warnings]
    return outcome


def plan_expiry(silence: dict[str, Any], rows: list[AlertRow], reason: str) -> Plan:
    """What would be done. ``rows``: all alerts, the gravest first."""
    muted = [row for row in rows if silence["id"] in muting_ids(row)]
    heard = [row for row in muted if muting_ids(row) == [silence["id"]]]
    undo: dict[str, Any] = {
        "matchers": matcher_texts(silence),
        "until": str(silence["endsAt"]),
        "reason": f"undo: {silence.get('comment') or reason}"[:500],
    }
    if state_of(silence) == "pending":
        undo["start"] = str(silence["startsAt"])
    words = f"{', '.join(matcher_texts(silence))}"
    return Plan(
        summary=f"End the silence {silence['id']} {{{words}}} by {silence.get('createdBy')}: "
        f"{str(silence.get('comment'))[:200]} ({reason})",
        changes=mute_changes(muted, str(silence["id"])),
        blast_radius=_radius(len(heard)),
        undo=Undo(tool="monitoring_create_silence", arguments=undo),
    )


def _radius(heard: int) -> str:
    if not heard:
        return "no alert is heard again now"
    return "1 alert is heard again" if heard == 1 else f"{heard} alerts are heard again"


async def end(alertmanager: Alertmanager, silence_id: str) -> list[str]:
    """Ends it. A write that is not answered is looked after before it is told as unknown.

    Raises:
        ToolError: Alertmanager's refusal, or ``outcome_unknown``.
    """
    try:
        await alertmanager.expire_silence(silence_id)
    except BackendError as error:
        fault = told(error, writes=True)
        if fault.code is ErrorCode.OUTCOME_UNKNOWN and await _has_ended(alertmanager, silence_id):
            return [f"the write was not answered ({error.message}), but the silence has ended"]
        if fault.code is ErrorCode.OUTCOME_UNKNOWN:
            fault.hint = "Ending a silence twice does no harm: see monitoring_list_silences, then repeat the call."
        raise fault from error
    return []


async def verify(alertmanager: Alertmanager, silence_id: str) -> SilenceOutcome:
    """The silence as Alertmanager has it now."""
    now = datetime.now(UTC)
    try:
        silence = await alertmanager.silence(silence_id)
    except BackendError as error:
        warning = f"it was carried out, but looking at it failed: {error.message}"
        return SilenceOutcome(outcome="expired", verified=False, warnings=[warning], as_of=now)
    gone = state_of(silence) == "expired"
    return SilenceOutcome(
        outcome="expired",
        silence=row_of(silence, None, now),
        verified=gone,
        warnings=[] if gone else ["Alertmanager took it, but the silence has not ended"],
        as_of=now,
    )


async def _one(alertmanager: Alertmanager, silence_id: str) -> dict[str, Any]:
    silences = await alertmanager.silences()
    for silence in silences:
        if silence["id"] == silence_id:
            return silence
    ids = [str(silence["id"]) for silence in silences if state_of(silence) != "expired"]
    close = [key for key in ids if key.startswith(silence_id)] or near(silence_id, ids)
    raise ToolError(
        ErrorCode.NOT_FOUND,
        f"Alertmanager has no silence {silence_id}",
        hint="monitoring_list_silences has the ids; Alertmanager forgets expired ones after days.",
        did_you_mean=close[:3],
        executed=Executed.NO,
    )


async def _has_ended(alertmanager: Alertmanager, silence_id: str) -> bool:
    try:
        return state_of(await alertmanager.silence(silence_id)) == "expired"
    except BackendError as error:
        return error.code == "not_found"
