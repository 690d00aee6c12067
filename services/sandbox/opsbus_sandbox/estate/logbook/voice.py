"""What a program's log is made of, and the random details that make lines look alive."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opsbus_sandbox.kube.runtime import ContainerRun


@dataclass(frozen=True)
class Moment:
    """What a line may depend on: when, how long into the run (simulated seconds), and dice of its own."""

    at: datetime
    uptime_s: float
    run: ContainerRun
    dice: random.Random


Line = Callable[[Moment], str]


def _nothing(_: Moment) -> list[str]:
    return []


@dataclass(frozen=True)
class Voice:
    """How one program writes. `rate` is lines in ten seconds; `begin` and `end` frame a run; an `end` is a crash's."""

    line: Line
    rate: tuple[int, int] = (2, 4)
    begin: Callable[[Moment], list[str]] = _nothing
    end: Callable[[Moment], list[str]] = _nothing


def structured(moment: Moment, level: str, logger: str, message: str, **fields: Any) -> str:
    """One JSON line, as the shop's services write them."""
    stamp = f"{moment.at:%Y-%m-%dT%H:%M:%S}.{moment.at.microsecond // 1000:03d}Z"
    head = {"ts": stamp, "level": level, "logger": logger, "msg": message}
    return json.dumps({**head, **fields}, separators=(",", ":"))


def pick(moment: Moment, choices: list[tuple[int, Line]]) -> str:
    """One of several kinds of line, by weight."""
    weights = [weight for weight, _ in choices]
    return moment.dice.choices([line for _, line in choices], weights)[0](moment)


def hexadecimal(dice: random.Random, digits: int) -> str:
    """A random hexadecimal string."""
    return f"{dice.getrandbits(4 * digits):0{digits}x}"


def bearer(dice: random.Random) -> str:
    """Something that looks like a JSON web token, and must be masked like one."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    body = "".join(dice.choice(alphabet) for _ in range(48))
    signature = "".join(dice.choice(alphabet) for _ in range(43))
    return f"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{body}.{signature}"
