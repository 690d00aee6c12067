"""Pod logs: which run of which container is asked for, and which of its lines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import parse_timestamp
from opsbus_sandbox.kube.errors import Cause, bad_request, forbidden_field, invalid, invalid_value
from opsbus_sandbox.kube.request import flag, number
from opsbus_sandbox.kube.runtime import ContainerRun, LogLine, Software

Obj = dict[str, Any]

# A node keeps this much of a container's log before it is rotated away.
KEPT = timedelta(hours=4)
_FOLLOW_EVERY_S = 0.25


@dataclass(frozen=True)
class LogOptions:
    """What to read. `since` None: as far back as the log goes."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    limit_bytes: int | None = None
    since: datetime | None = None


def log_options(query: Mapping[str, str], pod: str, now: datetime) -> LogOptions:
    """Read the parameters. Raises ApiError 400 or 422."""
    seconds, tail, limit = number(query, "sinceSeconds"), number(query, "tailLines"), number(query, "limitBytes")
    causes: list[Cause] = []
    if tail is not None and tail < 0:
        causes.append(invalid_value("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        causes.append(invalid_value("limitBytes", limit, "must be greater than 0"))
    if seconds is not None and query.get("sinceTime"):
        causes.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds is not None and seconds < 1:
        causes.append(invalid_value("sinceSeconds", seconds, "must be greater than 0"))
    if causes:
        raise invalid("PodLogOptions", pod, causes)
    since = now - timedelta(seconds=min(seconds, 10**9)) if seconds else None
    if text := query.get("sinceTime"):
        try:
            since = parse_timestamp(text)
        except ValueError as error:
            raise bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"') from error
    return LogOptions(
        query.get("container", ""), flag(query, "follow"), flag(query, "previous"), flag(query, "timestamps"), tail,
        limit, since,
    )  # fmt: skip


def choose_container(pod: Obj, asked: str) -> str:
    """The container whose log is meant. Raises ApiError 400 when none is named and there is a choice."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    containers = [container["name"] for container in spec["containers"]]
    starting = [container["name"] for container in spec.get("initContainers") or []]
    if asked:
        if asked not in containers + starting:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1:
        return str(containers[0])
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if starting:
        message += f" or one of the init containers: [{' '.join(starting)}]"
    raise bad_request(message)


def find_run(pod: Obj, container: str, *, previous: bool) -> ContainerRun | None:
    """The run whose log is meant; None when the pod is on no node yet. Raises ApiError 400 when it never started."""
    if not pod["spec"].get("nodeName"):
        return None
    name, status = pod["metadata"]["name"], pod.get("status", {})
    entries = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    entry: Obj = next((item for item in entries if item["name"] == container), {})
    state, last = entry.get("state") or {}, (entry.get("lastState") or {}).get("terminated")
    restarts = int(entry.get("restartCount", 0))
    if previous:
        if last is None:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        return _ended(pod, entry, last, restarts - 1)
    if "running" in state:
        started = parse_timestamp(state["running"]["startedAt"])
        return ContainerRun(pod, container, entry["image"], restarts, started)
    if "terminated" in state:
        return _ended(pod, entry, state["terminated"], restarts)
    if last is not None:
        return _ended(pod, entry, last, restarts - 1)
    raise bad_request(_waiting_text(name, container, str((state.get("waiting") or {}).get("reason", ""))))


def _waiting_text(pod: str, container: str, reason: str) -> str:
    why = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    text = why.get(reason, reason or "ContainerCreating")
    return f'container "{container}" in pod "{pod}" is waiting to start: {text}'


def _ended(pod: Obj, entry: Obj, ended: Obj, restart: int) -> ContainerRun:
    started, finished = parse_timestamp(ended["startedAt"]), parse_timestamp(ended["finishedAt"])
    reason = str(ended.get("reason", ""))
    return ContainerRun(pod, entry["name"], entry["image"], max(restart, 0), started, finished, reason)


def read_lines(software: Software, run: ContainerRun, options: LogOptions, now: datetime) -> list[LogLine]:
    """The lines asked for, oldest first, up to `now`."""
    end = min(now, run.finished + timedelta(seconds=1)) if run.finished else now
    oldest = max(run.started - timedelta(seconds=1), end - KEPT)
    if options.since:
        oldest = max(oldest, options.since)
    if options.tail is None:
        return list(software.log(run, oldest, end))
    # Lines are made on demand, so look back no further than the tail needs.
    window = timedelta(minutes=2)
    while True:
        start = max(oldest, end - window)
        lines = list(deque(software.log(run, start, end), maxlen=options.tail))
        if len(lines) >= options.tail or start <= oldest:
            return lines
        window *= 4


def encode(lines: Iterator[LogLine], *, timestamps: bool) -> Iterator[bytes]:
    """Lines as they go over the wire."""
    for moment, text in lines:
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}000Z " if timestamps else ""
        yield f"{stamp}{text}\n".encode()


def limited(chunks: Iterator[bytes], limit: int | None) -> Iterator[bytes]:
    """At most `limit` bytes of the chunks."""
    if limit is None:
        yield from chunks
        return
    left = limit
    for chunk in chunks:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


async def follow(
    software: Software, current: Callable[[], ContainerRun | None], run: ContainerRun, since: datetime
) -> AsyncIterator[list[LogLine]]:
    """New lines as they are written, until this run of the container ends.

    `current` looks the run up again: None means that the pod is gone.
    """
    uid = run.pod["metadata"]["uid"]
    position = since
    while True:
        await asyncio.sleep(_FOLLOW_EVERY_S)
        latest = current()
        now = datetime.now(since.tzinfo)
        same = latest is not None and latest.restart == run.restart and latest.pod["metadata"]["uid"] == uid
        finished = latest.finished if same and latest is not None else now
        end = now if finished is None else max(position, finished + timedelta(seconds=1))
        known = latest if same and latest is not None else run
        yield list(software.log(known, position, end))
        position = end
        if finished is not None:
            return
