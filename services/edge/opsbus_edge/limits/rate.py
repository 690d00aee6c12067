"""A rate as settings write it: ``100/minute``, ``1000/hour burst 50``."""

import re
from typing import NamedTuple

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_FORM = re.compile(r"^\s*(\d{1,9})\s*/\s*(second|minute|hour|day)(?:\s+burst\s+(\d{1,9}))?\s*$")


class Rate(NamedTuple):
    """A token bucket: it holds ``burst`` at most and gains ``per_s`` a second."""

    per_s: float
    burst: int
    text: str


def rate_of(text: str) -> Rate:
    """Read a rate. Without ``burst`` the whole count may come at once.

    Raises:
        ValueError: it says how a rate is written.
    """
    found = _FORM.match(text)
    if found is None or int(found[1]) == 0 or found[3] == "0":
        raise ValueError(f"{text!r} is no rate; write 100/minute or 1000/hour burst 50 (second, minute, hour, day)")
    count = int(found[1])
    return Rate(count / _SECONDS[found[2]], int(found[3] or count), " ".join(text.split()))
