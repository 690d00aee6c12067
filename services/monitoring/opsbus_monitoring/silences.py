"""Silences as Alertmanager has them: read, told apart, and the one that would mute all. No request is made here."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from opsbus import Change, ErrorCode, ToolError
from opsbus_monitoring.alertmodels import AlertRow
from opsbus_monitoring.matchers import Matcher
from opsbus_monitoring.silencemodels import SilenceRow

ALERTS_NAMED = 5
CHANGES_MAX = 50
COMMENT_CHARS = 300
_OPS = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}

_STRANGERS = ("zqxjvkwp", "ZqxjVkwp", "Zqxj-0.vk:9/kwp_1", "7304")
"""Values that no label has: a matcher that holds for one of them holds for nearly everything."""


def row_of(silence: dict[str, Any], muted_by: Mapping[str, list[AlertRow]] | None, now: datetime) -> SilenceRow:
    """A silence with what it mutes. ``muted_by``: as of ``by_silence``; None: not known."""
    ends, state = moment(silence["endsAt"]), state_of(silence)
    muted = muted_by.get(str(silence["id"]), []) if muted_by is not None and state != "expired" else None
    return SilenceRow(
        id=str(silence["id"]),
        state=state,
        matchers=matcher_texts(silence),
        created_by=str(silence.get("createdBy", ""))[:COMMENT_CHARS],
        comment=str(silence.get("comment", ""))[:COMMENT_CHARS],
        starts_at=moment(silence["startsAt"]),
        ends_at=ends,
        ends_in_s=max(0, int((ends - now).total_seconds())) if state != "expired" else None,
        mutes=len(muted) if muted is not None else None,
        alerts=list(dict.fromkeys(row.name[:100] for row in muted))[:ALERTS_NAMED] if muted else None,
        version=str(silence.get("updatedAt", "")),
    )


def state_of(silence: dict[str, Any]) -> Literal["active", "pending", "expired"]:
    """As Alertmanager says."""
    return cast(Literal["active", "pending", "expired"], str(silence["status"]["state"]))


def moment(text: Any) -> datetime:
    """Alertmanager's times. UTC."""
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def stamp(when: datetime) -> str:
    """RFC 3339, to the millisecond."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def matcher_texts(silence: dict[str, Any]) -> list[str]:
    """``severity="critical"``, one per matcher."""
    texts = []
    for item in silence.get("matchers") or []:
        op = _OPS[bool(item.get("isRegex")), item.get("isEqual") is not False]
        texts.append(str(Matcher(str(item["name"]), op, str(item["value"]))))
    return texts


def matcher_bodies(matchers: Sequence[Matcher]) -> list[dict[str, Any]]:
    """As the API takes them."""
    return [
        {"name": m.name, "value": m.value, "isRegex": "~" in m.op, "isEqual": not m.op.startswith("!")}
        for m in matchers
    ]


def by_silence(alerts: Iterable[AlertRow]) -> dict[str, list[AlertRow]]:
    """Silence to the alerts it mutes, in their order."""
    found: dict[str, list[AlertRow]] = {}
    for row in alerts:
        for key in muting_ids(row):
            found.setdefault(key, []).append(row)
    return found


def muting_ids(row: AlertRow) -> list[str]:
    """The silences that mute an alert."""
    return [silence.id for silence in row.silenced_by or []]


def require_narrow(matchers: Sequence[Matcher]) -> None:
    """
    Raises:
        ToolError: ``invalid_arguments`` when the matchers hold for nearly every alert there can be: none of them, only
            negative ones, a pattern such as ``.+``.
    """
    if any(not any(m.holds({m.name: value}) for value in ("", *_STRANGERS)) for m in matchers):
        return
    raise ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        f"matchers: {', '.join(map(str, matchers)) or 'none'} would mute nearly every alert, also those yet unknown",
        hint='Name what is to be quiet: alertname="DiskFull", with namespace="shop" or instance="db1" to be narrower.',
    )


def covering(silences: Iterable[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any] | None:
    """A silence with the same matchers that covers the time of a new one, to a minute or a twentieth of it."""
    starts, ends = moment(body["startsAt"]), moment(body["endsAt"])
    slack = max(timedelta(minutes=1), (ends - starts) / 20)
    for silence in same_matchers(silences, body):
        if moment(silence["startsAt"]) <= starts + timedelta(seconds=1) and moment(silence["endsAt"]) >= ends - slack:
            return silence
    return None


def same_matchers(silences: Iterable[dict[str, Any]], body: dict[str, Any]) -> list[dict[str, Any]]:
    """Silences not expired, with exactly these matchers."""
    wanted = sorted(matcher_texts(body))
    return [s for s in silences if state_of(s) != "expired" and sorted(matcher_texts(s)) == wanted]


def mute_changes(rows: Iterable[AlertRow], silence_id: str | None = None) -> list[Change]:
    """What becomes of alerts: muted by a new silence, or heard again when the one named ends.

    Nothing in it varies by the second: who confirms it must still find the same plan when the answer comes.
    """
    changes = []
    for row in rows:
        after = "silenced when it fires" if row.state == "pending" else "silenced"
        if silence_id is not None:
            others = [key for key in muting_ids(row) if key != silence_id]
            after = f"silenced by {others[0]}" if others else "heard again"
        changes.append(Change(path=alert_words(row), before=row.state, after=after))
    return changes[:CHANGES_MAX]


def alert_words(row: AlertRow) -> str:
    """``[critical] DiskFull {instance=db1}``, cut to be read."""
    where = ", ".join(f"{key}={value}" for key, value in row.labels.items())
    return f"[{row.severity[:20] or 'none'}] {row.name[:100]} {{{where[:160]}}}"
