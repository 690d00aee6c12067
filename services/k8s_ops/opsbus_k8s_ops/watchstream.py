"""One open watch, read line by line: each event as it comes, and the silence that no healthy watch keeps."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp

from opsbus_k8s_ops.api import Obj

LINE_BYTES_MAX = 4_000_000
"""One event, at most: etcd takes no object over 1.5 MB."""


class StaleWatchError(Exception):
    """Neither an event nor a bookmark for longer than the bound."""


class BrokenWatchError(Exception):
    """What came is no watch."""


class WatchRefusedError(Exception):
    """An ERROR event: the API server's Status in the middle of a watch."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


async def watch_events(content: aiohttp.StreamReader, stale_s: float) -> AsyncIterator[tuple[str, Obj]]:
    """``(ADDED | MODIFIED | DELETED | BOOKMARK, object)``, until the server ends the watch.

    What counts as a sign of life is an event: bytes that complete none may be a proxy's.

    Raises:
        StaleWatchError, BrokenWatchError, WatchRefusedError: as they say.
        aiohttp.ClientError, OSError: the connection broke.
    """
    heard, parts, size = time.monotonic(), list[bytes](), 0
    while True:
        try:
            async with asyncio.timeout(max(0.0, heard + stale_s - time.monotonic())):
                chunk = await content.readany()
        except TimeoutError:
            raise StaleWatchError(f"nothing was heard for {stale_s:g} s") from None
        if not chunk:
            if size and b"".join(parts).strip():
                raise BrokenWatchError("it ended in the middle of an event")
            return
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            event = read_event_line(b"".join(parts))
            parts, size = [], 0
            if event is not None:
                yield event
                heard = time.monotonic()
        parts.append(rest)
        size += len(rest)
        if size > LINE_BYTES_MAX:
            raise BrokenWatchError(f"an event is over {LINE_BYTES_MAX} bytes")


def read_event_line(line: bytes) -> tuple[str, Obj] | None:
    """One line; None: an empty one.

    Raises:
        BrokenWatchError: it is no event of a watch, as of a sign-in page.
        WatchRefusedError: the server ends the watch.
    """
    if not line.strip():
        return None
    try:
        event = json.loads(line)
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise WatchRefusedError(int(obj.get("code") or 500), str(obj.get("message") or obj.get("reason"))[:300])
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(obj["metadata"], dict):
            raise BrokenWatchError(f"an event of the unknown type {str(kind)[:40]!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenWatchError(f"a line is no event of a watch: {type(error).__name__}") from error
    return kind, obj
