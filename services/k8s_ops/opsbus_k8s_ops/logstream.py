"""Reading one container's log as it streams.

Bounded in bytes and lines, filtered and masked on the way, the newest kept.
"""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.api import ClusterApi, path_of
from opsbus_k8s_ops.logmodels import LogLine
from opsbus_k8s_ops.masking import LineMasker

LINE_CHARS_MAX = 2_000
"""A longer line is cut, and says by how much."""

SCAN_LINES = 20_000
"""Lines looked at per container when a filter decides which are wanted."""

_CHUNK_BYTES = 1 << 16
_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Source:
    """One run of one container."""

    namespace: str
    pod: str
    container: str
    previous: bool


@dataclass(frozen=True)
class LogQuery:
    """Which lines. ``before`` is exclusive: the RFC 3339 time of a line already seen."""

    tail: int
    bytes_max: int
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None
    include: Any = None
    exclude: Any = None

    @property
    def filtering(self) -> bool:
        """Lines have to be looked at here to know whether they are wanted."""
        return any(part is not None for part in (self.until, self.before, self.include, self.exclude))

    def parameters(self, source: Source) -> list[tuple[str, str | int]]:
        """The query of the API's log endpoint."""
        query: list[tuple[str, str | int]] = [("container", source.container), ("timestamps", "true")]
        query.append(("tailLines", SCAN_LINES if self.filtering else self.tail))
        if source.previous:
            query.append(("previous", "true"))
        if self.since:
            query.append(("sinceTime", self.since.strftime("%Y-%m-%dT%H:%M:%SZ")))
        return query


@dataclass
class Scan:
    """What came of reading one source. ``more``: there may be older lines than these."""

    source: Source
    lines: list[LogLine] = field(default_factory=list)
    scanned: int = 0
    more: bool = False
    note: str | None = None


async def read_source(api: ClusterApi, source: Source, query: LogQuery) -> Scan:
    """The newest matching lines of one source.

    Raises:
        ToolError: the cluster refused or is unreachable.
    """
    path = path_of("pods", source.namespace, source.pod, "log")
    kept: deque[LogLine] = deque(maxlen=query.tail)
    scan = Scan(source)
    masker, dropped = LineMasker(), 0
    try:
        async with api.stream(
            path, f"read the log of {source.pod}/{source.container}", query.parameters(source)
        ) as body:
            lines = _Lines(body, query.bytes_max)
            async for raw in lines:
                scan.scanned += 1
                time, _, text = raw.decode("utf-8", "replace").partition(" ")
                text = masker(text)
                if _too_new(time, query):
                    break
                # Filters see the masked line, or they could be used to guess at what is masked.
                if not _wanted(text, query):
                    continue
                dropped += len(kept) == query.tail
                kept.append(_line(time, source, text))
            if lines.cut:
                scan.note = (
                    f"reading stopped after {query.bytes_max} bytes: newer lines are missing, give a later since"
                )
    except ToolError as error:
        if error.code is not ErrorCode.BACKEND_UNAVAILABLE or not scan.scanned:
            raise
        scan.note = f"reading broke off after {scan.scanned} lines, newer ones may be missing: {error.message}"
    scan.lines = list(kept)
    scan.more = bool(dropped) or scan.scanned >= (SCAN_LINES if query.filtering else query.tail)
    if query.filtering and scan.scanned >= SCAN_LINES and not scan.note:
        scan.note = f"only the newest {SCAN_LINES} lines were searched: narrow since and until for older ones"
    return scan


class _Lines:
    """The lines of a body, at most so many bytes of it. ``cut``: there was more."""

    def __init__(self, body: aiohttp.StreamReader, bytes_max: int) -> None:
        self._body, self._bytes_max = body, bytes_max
        self.cut = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest, read = b"", 0
        async for chunk in self._body.iter_chunked(_CHUNK_BYTES):
            read += len(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line
            if read > self._bytes_max:
                self.cut = True
                return
            rest = rest[:_LINE_BYTES_MAX]
        if rest:
            yield rest


def sortable(time: str) -> str:
    """RFC 3339 in UTC with a fraction of nine digits: compares as text. The runtime drops trailing zeros."""
    whole, _, fraction = time.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}Z"


def _too_new(time: str, query: LogQuery) -> bool:
    if query.before is not None and sortable(time) >= query.before:
        return True
    return query.until is not None and sortable(time) > query.until.strftime("%Y-%m-%dT%H:%M:%S.%f") + "999Z"


def _wanted(text: str, query: LogQuery) -> bool:
    if query.include is not None and not query.include.search(text):
        return False
    return query.exclude is None or not query.exclude.search(text)


def _line(time: str, source: Source, text: str) -> LogLine:
    if len(text) > LINE_CHARS_MAX:
        text = f"{text[:LINE_CHARS_MAX]}... ({len(text) - LINE_CHARS_MAX} more characters)"
    return LogLine(
        time=time, pod=source.pod, container=source.container, previous=True if source.previous else None, text=text
    )
