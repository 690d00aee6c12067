"""A line of ``events.ndjson``: an event as an export has it, written, read, and hashed by the piece. Files are
piece.py's matter.

Two readers, of which one decides: ``parse_line`` takes any JSON. ``hash_lines`` first looks whether a line is exactly
as ``line`` writes it, and asks ``parse_line`` wherever it is not, or anything about it is out of the ordinary.
"""

import base64
import binascii
import json
import re
import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from opsbus_audit.proof.leaf import UNREADABLE, Event, hash_fields, leaf_of
from opsbus_audit.proof.merkle import HASH_BYTES

try:  # three times as fast; an offline verifier does without where it is not installed
    from orjson import dumps as _dumps
    from orjson import loads as _loads
except ImportError:
    from json import loads as _loads  # type: ignore[assignment]

    def _dumps(known: Any) -> bytes:  # type: ignore[misc]
        return json.dumps(known, separators=(",", ":")).encode()


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)")

# Printable ASCII without quote and backslash: what JSON takes as it stands.
_PLAIN = rb"[ !#-\[\]-~]"
_HEAD = re.compile(
    rb'\{"seq":([1-9][0-9]{0,19}),"subject":"(' + _PLAIN + rb'{0,256})"'
    rb',"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{9})Z"'
    rb',"id":"(' + _PLAIN + rb'*)","data":"'
)
_TAIL = b'"}'


def line(event: Event) -> bytes:
    """An event as ``events.ndjson`` has it, with the newline."""
    known = {
        "seq": event.sequence,
        "subject": event.subject,
        "time": rfc3339(event.time_ns),
        "id": event.id,
        "data": base64.b64encode(event.data).decode(),
    }
    try:
        return _dumps(known) + b"\n"
    except TypeError:
        # Half a surrogate pair, which only the standard library writes: as an escape.
        return json.dumps(known, separators=(",", ":")).encode() + b"\n"


def parse_line(text: bytes) -> Event | None:
    """The event of a line; None: it holds none."""
    try:
        found = _json(text)
        sequence = found["seq"]
        if type(sequence) is not int or not 0 < sequence < 1 << 64:
            return None
        # binascii takes the bytes faster than base64 does, and padding is checked either way.
        data = binascii.a2b_base64(found["data"], strict_mode=True)
        time_ns = _nanoseconds(found["time"])
        subject, id = found["subject"], found["id"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if not isinstance(subject, str) or not isinstance(id, str) or not 0 <= time_ns < 1 << 64:
        return None
    return Event(sequence, time_ns, subject, id, data)


def hash_lines(text: bytes) -> tuple[list[int], bytes]:
    """The sequences of lines, ``UNREADABLE`` where a line holds no event, and their leaf hashes one after the other.

    Args:
        text: Whole lines; the newline of the last one may be missing.
    """
    sequences: list[int] = []
    hashes: list[bytes] = []
    # Looked up once: this loop runs for each event of an export.
    head_of, find, decode, seconds_of = _HEAD.match, text.find, binascii.a2b_base64, _seconds_of
    at, end = 0, len(text)
    while at < end:
        stop = find(b"\n", at)
        if stop < 0:
            stop = end
        head = head_of(text, at, stop)
        if head is not None and text.endswith(_TAIL, head.end(), stop):
            number, subject, second, fraction, id = head.groups()
            try:
                # Strict: whatever is no base64, a quote or a backslash too, is an error.
                data = decode(text[head.end() : stop - len(_TAIL)], strict_mode=True)
                sequence = int(number)
                hashes.append(hash_fields(sequence, seconds_of(second) + int(fraction), subject, id, data))
                sequences.append(sequence)
                at = stop + 1
                continue
            except (ValueError, OverflowError, struct.error):
                pass
        event = parse_line(text[at:stop])
        sequences.append(UNREADABLE if event is None else event.sequence)
        hashes.append(bytes(HASH_BYTES) if event is None else leaf_of(*event))
        at = stop + 1
    return sequences, b"".join(hashes)


def parse_lines(text: bytes) -> list[Event | None]:
    """The events of lines, as ``hash_lines`` takes them."""
    return [parse_line(one) for one in text.removesuffix(b"\n").split(b"\n")] if text else []


def rfc3339(time_ns: int) -> str:
    """RFC 3339 with all nine decimals, in UTC."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09d}Z"


def _json(text: bytes) -> Any:
    try:
        return _loads(text)
    except ValueError:
        # The standard library takes half a surrogate pair, and what it takes is what counts.
        return json.loads(text)


@lru_cache(maxsize=4_096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4_096)
def _seconds_of(text: bytes) -> int:
    """Nanoseconds of a whole second."""
    return _seconds(text.decode("ascii")) * 1_000_000_000


@lru_cache(maxsize=4_096)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


def _nanoseconds(text: str) -> int:
    if len(text) == 30 and text[19] == "." and text[29] == "Z" and text[20:29].isdecimal() and text.isascii():
        return _seconds(text[:19]) * 1_000_000_000 + int(text[20:29])
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("no time")
    return _seconds(found[1]) * 1_000_000_000 + int((found[2] or "").ljust(9, "0") or 0)
