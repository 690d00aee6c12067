"""monitoring_create_silence."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from pydantic import Field

from opsbus import Context, ErrorCode, Plan, ToolError, Undo
from opsbus.toolerror import near
from opsbus.when import parse_when, seconds_of
from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.alertmodels import AlertRow
from opsbus_monitoring.arguments import Confirm, DryRun, IdempotencyKey, Matchers, Reason
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking, told
from opsbus_monitoring.matchers import Matcher, parse_matchers
from opsbus_monitoring.silencemodels import SilenceOutcome, span_in_words
from opsbus_monitoring.silences import (
    by_silence,
    covering,
    matcher_bodies,
    moment,
    mute_changes,
    muting_ids,
    require_narrow,
    row_of,
    same_matchers,
    stamp,
    state_of,
)
from opsbus_monitoring.tool_alerts import ALERTS_URI, gravest_first, managed_alerts, read_alerts

LEAST_S = 60
OWNERS_NAMED = 5
AHEAD = timedelta(days=60)
"""How far ahead a silence may begin."""

_WATCHDOGS = ("watchdog", "deadmansswitch", "deadmanswitch")
_UNDOING = "undo: "


@dataclass(frozen=True)
class Window:
    """When it is to be quiet. ``words``: as the caller said it, so that a plan reads the same when it is confirmed."""

    starts: datetime
    ends: datetime
    words: str


async def create_silence(
    ctx: Context[Backends],
    matchers: Matchers,
    reason: Reason,
    duration: Annotated[
        str | None, Field(pattern=r"^\s*(?:\d{1,6}[mhdw])+\s*$", description="30m, 2h, 1d. Either this or until.")
    ] = None,
    until: Annotated[str | None, Field(max_length=64, description="RFC 3339 or now+2h, in place of duration.")] = None,
    start: Annotated[
        str, Field(max_length=64, description="RFC 3339 or now+1h: planned work may begin later.")
    ] = "now",
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
) -> SilenceOutcome:
    """Mute the alerts that all matchers hold for, for a bounded time, after a person confirmed the plan.

    The plan lists the alerts it would mute now; matchers that hold for everything are refused. The answer has the call
    that ends it early. Example: matchers=["alertname=\\"DiskFull\\"", "instance=\\"db1\\""], duration="2h",
    reason="disk is being replaced".
    """
    backends, alertmanager = ctx.state, ctx.state.alertmanager
    wanted = parse_matchers(matchers)
    require_narrow(wanted)
    most = timedelta(days=backends.settings.silence_days_max)
    window = window_of(start, duration, until, most, datetime.now(UTC))
    with asking():
        silences = await alertmanager.silences()
    there = covering(silences, body_of(wanted, window, ctx.identity.sub, reason))
    if there is not None:
        now = datetime.now(UTC)
        return SilenceOutcome(outcome="unchanged", silence=row_of(there, None, now), as_of=now)
    plan, version = await plan_silence(backends, wanted, window, silences, reason)
    if dry_run:
        return SilenceOutcome(outcome="planned", plan=plan, as_of=datetime.now(UTC))
    await ctx.confirm(plan, version=version, confirm=confirm)
    # The time runs from the confirmation on, not from when it was first asked for.
    body = body_of(wanted, window_of(start, duration, until, most, datetime.now(UTC)), ctx.identity.sub, reason)
    silence_id, warnings = await store(alertmanager, body)
    await ctx.emit(
        "silence_created",
        {"silence": silence_id, "matchers": matcher_texts_of(wanted), "ends_at": body["endsAt"], "reason": reason},
        silence_id,
    )
    await ctx.resource_updated(ALERTS_URI)
    outcome = await verify(alertmanager, silence_id, wanted)
    outcome.undo = Undo(
        tool="monitoring_expire_silence",
        arguments={"silence_id": silence_id, "reason": f"{_UNDOING}{reason.removeprefix(_UNDOING)}"[:500]},
    )
    outcome.warnings = [*plan.warnings, *warnings, *outcome.warnings]
    return outcome


def window_of(start: str, duration: str | None, until: str | None, most: timedelta, now: datetime) -> Window:
    """When it is to be quiet.

    Raises:
        ToolError: ``invalid_arguments`` for no end or two, a time that is over, or a silence too short or too long.
    """
    if (duration is None) == (until is None):
        raise _wrong("exactly one of duration and until must be given", 'duration="2h", or until="now+2h".')
    starts = parse_when(start, "start", now, future=True)
    over = starts < now - timedelta(minutes=1)
    if (over and until is None) or starts > now + AHEAD:
        raise _wrong(f"start: {start!r} is over, or more than {AHEAD.days} days ahead", "Leave it out to begin now.")
    # With a fixed end, what should have begun already begins now: so the call that undoes an early end still holds.
    starts = max(starts, now) if until is not None else starts
    begins = "" if start == "now" or over else f" from {start}"
    if duration is not None:
        length, words = timedelta(seconds=seconds_of(duration.strip())), f"{begins} for {duration.strip()}"
        ends = starts + min(length, most + timedelta(days=1))
    else:
        ends, words = parse_when(str(until), "until", now, future=True), f"{begins} until {until}"
        length = ends - starts
    if length <= timedelta():
        raise _wrong("it would be quiet for no time: it ends before it begins", "Give an end after the start.")
    if not timedelta(seconds=LEAST_S) <= length <= most:
        raise _wrong(
            f"it would be quiet for {span_in_words(length.total_seconds())}",
            f"From {LEAST_S // 60} minute to {span_in_words(most.total_seconds())} (the worker's setting "
            "silence_days_max); what is to be quiet for longer belongs into the rules.",
        )
    return Window(starts, ends, words.strip())


def body_of(matchers: list[Matcher], window: Window, caller: str, reason: str) -> dict[str, Any]:
    """A silence as the API takes it."""
    return {
        "matchers": matcher_bodies(matchers),
        "startsAt": stamp(window.starts),
        "endsAt": stamp(window.ends),
        "createdBy": caller,
        "comment": reason,
    }


async def plan_silence(
    backends: Backends, matchers: list[Matcher], window: Window, silences: list[dict[str, Any]], reason: str
) -> tuple[Plan, str]:
    """The plan, and the version it is confirmed for: which alerts, by name and severity, it would mute now.

    One more instance of an alert that the plan names does not void a confirmation, another alert does.
    """
    now = datetime.now(UTC)
    known, unread = await read_alerts(backends, [], now)
    held = gravest_first(row for row in known if all(matcher.holds(row.all_labels()) for matcher in matchers))
    fresh = [row for row in held if row.state != "silenced"]
    texts = matcher_texts_of(matchers)
    plan = Plan(
        summary=f"Silence {{{', '.join(texts)}}} {window.words} ({reason})",
        changes=mute_changes(fresh),
        blast_radius=_radius(fresh, held, known),
        warnings=[*_obstacles(matchers, fresh, held, known), *_alike(silences, matchers), *unread],
    )
    kinds = sorted({(row.name, row.severity) for row in fresh})
    return plan, sha256(repr(kinds).encode()).hexdigest()[:16]


async def store(alertmanager: Alertmanager, body: dict[str, Any]) -> tuple[str, list[str]]:
    """The new silence's id. When the write is not answered, whether it is there is looked up before it is unknown.

    Raises:
        ToolError: Alertmanager's refusal, or ``outcome_unknown``.
    """
    try:
        silence_id = await alertmanager.create_silence(body)
    except BackendError as error:
        fault = told(error, writes=True)
        if fault.code is not ErrorCode.OUTCOME_UNKNOWN:
            raise fault from error
        silence_id = await _found(alertmanager, body)
        if silence_id:
            return silence_id, [f"the write was not answered ({error.message}), but the silence is there"]
        fault.hint = "See monitoring_list_silences before anything else; do not simply repeat the call."
        raise fault from error
    return silence_id, []


async def verify(alertmanager: Alertmanager, silence_id: str, matchers: list[Matcher]) -> SilenceOutcome:
    """The silence as Alertmanager has it now, and whether every alert it is about is muted by it."""
    now = datetime.now(UTC)
    try:
        silence = await alertmanager.silence(silence_id)
        rows = gravest_first(await managed_alerts(alertmanager, now))
    except BackendError as error:
        warning = f"it was carried out, but looking at it failed: {error.message}"
        return SilenceOutcome(outcome="created", verified=False, warnings=[warning], as_of=now)
    held = [row for row in rows if all(matcher.holds(row.all_labels()) for matcher in matchers)]
    loud = [row for row in held if silence_id not in muting_ids(row)] if state_of(silence) == "active" else []
    return SilenceOutcome(
        outcome="created",
        silence=row_of(silence, by_silence(rows), now),
        verified=state_of(silence) != "expired" and not loud,
        warnings=[f"{len(loud)} alerts that it is about are not muted yet"] if loud else [],
        as_of=now,
    )


def matcher_texts_of(matchers: list[Matcher]) -> list[str]:
    """``severity="critical"``, one per matcher."""
    return [str(matcher) for matcher in matchers]


async def _found(alertmanager: Alertmanager, body: dict[str, Any]) -> str:
    try:
        silences = await alertmanager.silences()
    except BackendError:
        return ""  # the caller is told that the outcome is unknown
    mine = [
        silence
        for silence in same_matchers(silences, body)
        if (silence.get("createdBy"), silence.get("comment")) == (body["createdBy"], body["comment"])
        and moment(silence["endsAt"]) == moment(body["endsAt"])
    ]
    return str(mine[0]["id"]) if mine else ""


def _radius(fresh: list[AlertRow], held: list[AlertRow], known: list[AlertRow]) -> str:
    if not held:
        return "mutes nothing now: no alert has such labels"
    parts = [f"mutes {len(fresh)} of the {len(known)} alerts there are now"]
    if len(held) > len(fresh):
        parts.append(f"{len(held) - len(fresh)} more are silenced already")
    owners = Counter(row.owner for row in fresh if row.owner).most_common(OWNERS_NAMED + 1)
    whose = ", ".join(f"{owner} ({count})" for owner, count in owners[:OWNERS_NAMED])
    more = ", and more" if len(owners) > OWNERS_NAMED else ""
    told = [f"owners: {whose}{more}"] if whose else []
    return "; ".join([*parts, "whoever is on call for them is not told", *told])


def _obstacles(
    matchers: list[Matcher], fresh: list[AlertRow], held: list[AlertRow], known: list[AlertRow]
) -> list[str]:
    warnings = []
    grave = sorted({row.name for row in fresh if row.severity in ("critical", "page")})
    if grave:
        warnings.append(f"critical alerts fall silent: {', '.join(grave[:10])}")
    if len(known) > 1 and len(held) == len(known):
        warnings.append("it mutes every alert there is now")
    if any(row.name.lower() in _WATCHDOGS for row in fresh):
        warnings.append("it mutes the alert that proves that alerting works: whoever waits for it will be paged")
    if not held:
        meant = _meant(matchers, known)
        warnings.append(
            f"no alert matches now: did you mean {' or '.join(meant)}?"
            if meant
            else "no alert matches now: a misspelt matcher? monitoring_get_alerts shows the labels there are"
        )
    return warnings


def _meant(matchers: list[Matcher], known: list[AlertRow]) -> list[str]:
    """Values that alerts have, near to those no alert has."""
    meant = []
    for matcher in matchers:
        values = {row.all_labels().get(matcher.name, "") for row in known} - {""}
        if matcher.op == "=" and matcher.value not in values:
            meant += [f'{matcher.name}="{value}"' for value in near(matcher.value, sorted(values), 1)]
    return meant


def _alike(silences: list[dict[str, Any]], matchers: list[Matcher]) -> list[str]:
    return [
        f"the same is silenced already until {silence['endsAt']} by {silence.get('createdBy')}: "
        f"{str(silence.get('comment'))[:100]}"
        for silence in same_matchers(silences, {"matchers": matcher_bodies(matchers)})[:3]
    ]


def _wrong(message: str, hint: str) -> ToolError:
    return ToolError(ErrorCode.INVALID_ARGUMENTS, message, hint=hint)
