"""An event as a line: for a person, as NDJSON, as a CloudEvent. From the JSON as recorded, without a model: replaying
is to be as fast as the bus gives."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson

from opsbus_audit.ordered import Recorded
from opsbus_audit.timeline import facts

_ARGUMENTS_MAX = 160
_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_BOLD = "\x1b[1m"
_MARKS = {
    "requested": ("▶", "36"),
    "input_required": ("?", "33"),
    "approved": ("✓", "36"),
    "completed": ("✔", "32"),
    "failed": ("✘", "31"),
    "denied": ("⊘", "35"),
    "limited": ("⊘", "35"),
    "unknown": ("!", "91"),
    "cancelled": ("↩", "33"),
}
_PLATFORM = ("◆", "34")


class Form(StrEnum):
    """How events are written."""

    TIMELINE = "timeline"
    NDJSON = "ndjson"
    CLOUDEVENTS = "cloudevents"


def line_writer(form: Form, *, colour: bool) -> Callable[[Recorded, Any], bytes]:
    """Gives the function that makes a line of an event; empty: it has none in this form."""
    match form:
        case Form.NDJSON:
            return ndjson
        case Form.CLOUDEVENTS:
            return cloudevent
        case _:
            return Timeline(colour)


def ndjson(recorded: Recorded, event: Any) -> bytes:
    """``{"sequence", "stored_at", "subject", "event"}``; ``raw`` in base64 where the bytes are no event."""
    sequence, stored_ns, subject, _, payload = recorded
    seconds, rest = divmod(stored_ns, 1_000_000_000)
    if event is None:
        name, value = b"raw", b'"' + base64.b64encode(payload) + b'"'
    else:
        name, value = b"event", _on_one_line(payload, event)
    parts = (sequence, _second(seconds), rest, _json_string(subject), name, value)
    return b'{"sequence":%d,"stored_at":"%s.%09dZ","subject":%s,"%s":%s}\n' % parts


def cloudevent(recorded: Recorded, event: Any) -> bytes:
    """The event as it was recorded. What is no event has no such form."""
    return b"" if event is None else _on_one_line(recorded.payload, event) + b"\n"


def _on_one_line(payload: bytes, event: Any) -> bytes:
    return orjson.dumps(event) if b"\n" in payload or b"\r" in payload else payload


@lru_cache(maxsize=512)
def _second(seconds: int) -> bytes:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}".encode()


@lru_cache(maxsize=512)
def _json_string(text: str) -> bytes:
    return orjson.dumps(text)


def stored_at(stored_ns: int) -> str:
    """RFC 3339 with nanoseconds."""
    seconds, rest = divmod(stored_ns, 1_000_000_000)
    return f"{_second(seconds).decode()}.{rest:09d}Z"


class Timeline:
    """Lines for a person: a heading for each day, a mark and a colour for each step."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour
        self._day = -1
        self._second = -1
        self._clock = ""

    def __call__(self, recorded: Recorded, event: Any) -> bytes:
        """The line of an event, with the day's heading before it when the day is new."""
        seconds, rest = divmod(recorded.stored_ns, 1_000_000_000)
        text = ""
        if seconds != self._second:
            moment = datetime.fromtimestamp(seconds, UTC)
            self._second, self._clock = seconds, f"{moment:%H:%M:%S}"
            if seconds // 86_400 != self._day:
                self._day = seconds // 86_400
                text = self._paint(f"── {moment:%A %d %B %Y} UTC ", _BOLD) + self._paint("─" * 40, _DIM) + "\n"
        clock = self._paint(f"{self._clock}.{rest // 1_000_000:03d}", _DIM)
        text += f"{clock} {self._step(recorded, event)}\n"
        return text.encode("utf-8", "replace")

    def _step(self, recorded: Recorded, event: Any) -> str:
        if event is None:
            stage = recorded.subject.rpartition(".")[2]
            return self._paint(f"✘ {printable(stage):<14} UNREADABLE event {recorded.sequence}", "\x1b[31m")
        data = event["data"]
        stage = str(data.get("stage", "?"))
        mark, tone = _MARKS.get(stage, _PLATFORM)
        what = printable(str(data.get("tool") or data.get("target") or data.get("method") or ""))
        who = printable(str(data.get("actor") or "(nobody)"))
        call = printable(str(data.get("call", ""))[:8])
        words = "  ".join(printable(word) for word in _details(stage, data))
        painted = self._paint(f"{mark} {printable(stage):<14}", f"\x1b[{tone}m")
        return f"{painted} {self._paint(f'{what:<28}', _BOLD)} {who:<18} {self._paint(call, _DIM)}  {words}".rstrip()

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._colour else text


def _details(stage: str, data: dict[str, Any]) -> list[str]:
    words = []
    if error := data.get("error"):
        executed = data.get("executed")
        words.append(f"{error}, executed: {executed}" if executed else str(error))
    if message := data.get("message"):
        words.append(str(message))
    duration = data.get("duration_ms")
    if isinstance(duration, int | float):
        words.append(f"{duration:.0f} ms")
    if stage == "requested" and (arguments := data.get("arguments")):
        shown = orjson.dumps(arguments).decode()
        words.append(shown if len(shown) <= _ARGUMENTS_MAX else f"{shown[:_ARGUMENTS_MAX]}…")
    if (reason := data.get("reason")) and stage not in ("completed", "failed"):
        words.append(f"reason: {reason}")
    if change := data.get("change_id"):
        words.append(str(change))
    if (approver := data.get("approver")) and stage == "approved":
        words.append(f"by {approver}")
    platform = data.get("method") == "platform"
    if (platform or stage == "approved") and isinstance(details := data.get("details"), dict):
        words.append(facts(details))
    if (rule := data.get("rule")) and stage in ("denied", "limited"):
        words.append(f"rule: {rule}")
    return words


def printable(text: str) -> str:
    """What callers send ends up on an operator's terminal: no control characters, no line breaks."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)
