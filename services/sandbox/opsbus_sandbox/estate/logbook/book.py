"""Reads the log of any run at any time: lines are made on demand, the same for the same run and moment."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from opsbus_sandbox.estate.images import split_image
from opsbus_sandbox.estate.logbook import checkout, infrastructure, shop
from opsbus_sandbox.estate.logbook.infrastructure import logfmt
from opsbus_sandbox.estate.logbook.voice import Moment, Voice
from opsbus_sandbox.kube.runtime import ContainerRun, LogLine

_BUCKET_S = 10.0  # simulated seconds
_VOICES: dict[str, Voice] = {**shop.VOICES, **infrastructure.VOICES, "checkout": checkout.VOICE}
_PLAIN = Voice(logfmt("main", ("tick", "working", "still here")), (1, 2))


def read_log(run: ContainerRun, since: datetime, until: datetime, speed: float) -> Iterator[LogLine]:
    """The lines of a run in [since, until), oldest first: its opening, what it does all day, and its end."""
    voice = _VOICES.get(split_image(run.image)[0].rsplit("/", 1)[-1], _PLAIN)
    stop = run.finished or until
    opening = _framing(run, voice, run.started, "begin")
    for moment, text in [(at, text) for at, text in opening if since <= at < until]:
        yield moment, text
    begun = opening[-1][0] if opening else run.started
    for moment, text in _daily(run, voice, max(since, begun), min(until, stop), speed):
        yield moment, text
    if run.finished is not None:
        for moment, text in _framing(run, voice, run.finished, "end"):
            if since <= moment < until:
                yield moment, text


def _dice(run: ContainerRun, bucket: int | str) -> random.Random:
    meta = run.pod["metadata"]
    seed = f"{meta.get('namespace')}/{meta['name']}/{run.container}/{run.restart}/{bucket}"
    return random.Random(seed)  # noqa: S311 - repeatable lines, not secrets


def _framing(run: ContainerRun, voice: Voice, at: datetime, which: str) -> list[LogLine]:
    moment = Moment(at, 0.0, run, _dice(run, which))
    texts = voice.begin(moment) if which == "begin" else voice.end(moment)
    return [(at + timedelta(milliseconds=index), text) for index, text in enumerate(texts)]


def _daily(run: ContainerRun, voice: Voice, since: datetime, until: datetime, speed: float) -> Iterator[LogLine]:
    first = math.floor((since - run.started).total_seconds() * speed / _BUCKET_S)
    last = math.floor((until - run.started).total_seconds() * speed / _BUCKET_S)
    for bucket in range(max(first, 0), last + 1):
        dice = _dice(run, bucket)
        offsets = sorted(dice.uniform(0, _BUCKET_S) for _ in range(dice.randint(*voice.rate)))
        for offset in offsets:
            uptime = bucket * _BUCKET_S + offset
            at = run.started + timedelta(seconds=uptime / speed)
            # Every line is made, also those outside, so that the dice fall alike whatever is asked for.
            text = voice.line(Moment(at, uptime, run, dice))
            if since <= at < until:
                yield at, text
