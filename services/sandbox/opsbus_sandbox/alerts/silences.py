"""Silences and matchers, as Alertmanager has them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from opsbus_sandbox.promql.database import Labels

_FILTER = re.compile(r'^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*$', re.DOTALL)


class BadSilenceError(ValueError):
    """What Alertmanager answers with 400."""


@dataclass(frozen=True)
class LabelMatcher:
    """A matcher on an alert's label; an absent label reads as empty."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool

    def holds(self, labels: Labels) -> bool:
        """Whether the labels satisfy it."""
        have = labels.get(self.name, "")
        same = re.fullmatch(self.value, have) is not None if self.is_regex else have == self.value
        return same == self.is_equal

    def to_json(self) -> dict[str, Any]:
        """As in the API."""
        return {"name": self.name, "value": self.value, "isRegex": self.is_regex, "isEqual": self.is_equal}


def parse_filter(text: str) -> LabelMatcher:
    """``severity=~"warning|critical"``.

    Raises:
        BadSilenceError: it is no matcher.
    """
    match = _FILTER.match(text)
    if not match:
        raise BadSilenceError(f"bad matcher format: {text}")
    name, op, value = match.groups()
    return _matcher(name, value, is_regex="~" in op, is_equal="!" not in op)


def _matcher(name: str, value: str, *, is_regex: bool, is_equal: bool) -> LabelMatcher:
    if is_regex:
        try:
            re.compile(value)
        except re.error as error:
            raise BadSilenceError(f"error parsing regexp: {error}") from None
    return LabelMatcher(name, value, is_regex, is_equal)


@dataclass
class Silence:
    """Mutes alerts that all its matchers hold for, from start to end. Unix seconds."""

    id: str
    matchers: tuple[LabelMatcher, ...]
    starts_at: float
    ends_at: float
    created_by: str
    comment: str
    updated_at: float

    def state(self, now: float) -> str:
        """``pending``, ``active`` or ``expired``."""
        if now >= self.ends_at:
            return "expired"
        return "active" if now >= self.starts_at else "pending"

    def mutes(self, labels: Labels, now: float) -> bool:
        """Whether an alert is muted by it now."""
        return self.state(now) == "active" and all(matcher.holds(labels) for matcher in self.matchers)

    def to_json(self, now: float) -> dict[str, Any]:
        """As in the API."""
        return {
            "id": self.id,
            "status": {"state": self.state(now)},
            "matchers": [matcher.to_json() for matcher in self.matchers],
            "startsAt": stamp(self.starts_at),
            "endsAt": stamp(self.ends_at),
            "updatedAt": stamp(self.updated_at),
            "createdBy": self.created_by,
            "comment": self.comment,
        }


def stamp(when: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Silences:
    """All silences, by id."""

    clock: Callable[[], float]
    by_id: dict[str, Silence] = field(default_factory=dict)

    def put(self, body: Any) -> Silence:
        """Create a silence, or replace the one whose ``id`` is given (the old one expires).

        Raises:
            BadSilenceError: with Alertmanager's words.
            KeyError: the id is unknown.
        """
        if not isinstance(body, dict):
            raise BadSilenceError("invalid silence: body must be an object")
        now = self.clock()
        matchers = tuple(_from_json(item) for item in body.get("matchers") or [])
        if not matchers:
            raise BadSilenceError("silence invalid: at least one matcher required")
        if all(matcher.holds({}) for matcher in matchers):
            raise BadSilenceError("silence invalid: at least one matcher must not match the empty string")
        starts, ends = _time(body, "startsAt", now), _time(body, "endsAt", None)
        if ends <= starts:
            raise BadSilenceError("silence invalid: end time must not be before start time")
        if ends <= now:
            raise BadSilenceError("silence invalid: end time can't be in the past")
        for name in ("createdBy", "comment"):
            if not str(body.get(name) or "").strip():
                raise BadSilenceError(f"silence invalid: {name} missing")
        replaced = str(body.get("id") or "")
        if replaced:
            self.by_id[replaced].ends_at = now
        silence = Silence(
            str(uuid.uuid4()), matchers, max(starts, now), ends, str(body["createdBy"]), str(body["comment"]), now
        )
        self.by_id[silence.id] = silence
        return silence

    def expire(self, silence_id: str) -> None:
        """End a silence now. Raises KeyError when the id is unknown, BadSilenceError when it has ended."""
        silence = self.by_id[silence_id]
        if silence.state(self.clock()) == "expired":
            raise BadSilenceError(f"silence {silence_id} already expired")
        silence.ends_at = silence.updated_at = self.clock()

    def muting(self, labels: Labels) -> list[str]:
        """Ids of the silences that mute an alert."""
        now = self.clock()
        return [silence.id for silence in self.by_id.values() if silence.mutes(labels, now)]


def _from_json(item: Any) -> LabelMatcher:
    if not isinstance(item, dict) or not item.get("name") or "value" not in item:
        raise BadSilenceError("invalid label matcher: name and value are required")
    equal = item.get("isEqual")
    return _matcher(
        str(item["name"]),
        str(item["value"]),
        is_regex=bool(item.get("isRegex")),
        is_equal=True if equal is None else bool(equal),
    )


def _time(body: dict[str, Any], name: str, default: float | None) -> float:
    text = body.get(name)
    if text is None and default is not None:
        return default
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        raise BadSilenceError(f"{name} in body must be of type date-time: {str(text)!r}") from None
