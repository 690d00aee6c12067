"""k8s_get_pod_logs."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, cast

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus.when import parse_when
from opsbus_k8s_ops.api import ClusterApi
from opsbus_k8s_ops.arguments import Cluster, LabelSelector, Name, Namespace, PageCursor
from opsbus_k8s_ops.cluster import ANSWER_MARGIN_S, Clusters
from opsbus_k8s_ops.logmodels import LogLine, LogStream, PodLogs
from opsbus_k8s_ops.logstream import LogQuery, Scan, Source, read_source, sortable
from opsbus_k8s_ops.logtargets import Previous, find_pods, sources_of
from opsbus_k8s_ops.objects import meta
from opsbus_k8s_ops.paging import BUDGET_BYTES, decode, encode, query_digest
from opsbus_k8s_ops.patterns import cluster_lines
from opsbus_k8s_ops.regexes import PATTERN_CHARS_MAX, compile_regex

READS_AT_ONCE = 5
"""Logs read from one cluster at a time by one call."""

READ_S_MAX = 30.0
"""One log may take this long to be read. Seconds."""

SOURCES_MAX = 60
"""Runs of containers one call reads."""

TAIL_LINES, TAIL_PATTERNS = 100, 2_000

Pattern = Annotated[
    str | None, Field(min_length=1, max_length=PATTERN_CHARS_MAX, description="RE2; (?i) ignores case.")
]
When = Annotated[str | None, Field(max_length=64, description="RFC 3339, now-1h, or 15m for that long ago.")]


async def get_pod_logs(
    ctx: Context[Clusters],
    namespace: Namespace,
    pod: Annotated[Name | None, Field(description="One pod, by its full name.")] = None,
    workload: Annotated[
        str | None, Field(min_length=1, max_length=280, description="All pods of checkout, or of statefulset/redis.")
    ] = None,
    label_selector: LabelSelector = None,
    containers: Annotated[
        list[str] | None, Field(max_length=10, description="Default: all but init containers.")
    ] = None,
    since: When = None,
    until: When = None,
    include: Pattern = None,
    exclude: Pattern = None,
    previous: Annotated[
        Previous, Field(description="auto: also the run before, where a container has just restarted or waits to.")
    ] = "auto",
    tail: Annotated[
        int | None,
        Field(ge=1, le=2000, description="Newest matching lines per container. Default: 100, with patterns 2000."),
    ] = None,
    mode: Annotated[
        Literal["lines", "patterns"], Field(description="patterns: repeated lines counted, errors first.")
    ] = "lines",
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> PodLogs:
    """Log lines of a pod, or of all pods of a workload merged by time, filtered by time and regular expressions.

    Crash-looping containers show the run that died. mode=patterns counts lines that differ only in numbers and ids:
    start there when there are many. Secrets (tokens, passwords, keys) are masked before the filters see a line.
    """
    clusters, now = ctx.state, datetime.now(UTC)
    clusters.require_allowed([namespace])
    api = clusters.api(ctx, cluster)
    digest = query_digest(c=api.name, n=namespace, p=pod, w=workload, l=label_selector, i=include, e=exclude, m=mode)
    after = decode(cursor, digest)
    query = LogQuery(
        tail=tail or (TAIL_PATTERNS if mode == "patterns" else TAIL_LINES),
        bytes_max=clusters.settings.log_scan_bytes_max,
        since=parse_when(since, "since", now) if since is not None else None,
        until=parse_when(until, "until", now) if until is not None else None,
        before=after[1] if after else None,
        include=compile_regex(include, "include"),
        exclude=compile_regex(exclude, "exclude"),
    )
    pods = await find_pods(api, namespace, pod, workload, label_selector, clusters.bounds)
    warnings = []
    if len(pods) > clusters.settings.log_pods_max:
        left_out = [str(meta(item).get("name")) for item in pods[clusters.settings.log_pods_max :]]
        warnings.append(f"{len(left_out)} healthier pods were left out: {', '.join(left_out[:10])}")
    sources = [
        source
        for item in pods[: clusters.settings.log_pods_max]
        for source in sources_of(item, containers, previous, now)
    ]
    if len(sources) > SOURCES_MAX:
        warnings.append(f"{len(sources) - SOURCES_MAX} containers were left out: name them in `containers`")
    patient = api.patient(min(READ_S_MAX, ctx.remaining_s - ANSWER_MARGIN_S))
    scans = await read_all(patient, sources[:SOURCES_MAX], query)
    lines = sorted((line for scan in scans for line in scan.lines), key=lambda line: sortable(line.time))
    if mode == "patterns":
        # Many lines take seconds: on a thread, so that the call goes on sending heartbeats.
        page = await asyncio.to_thread(_patterns, lines, warnings)
    else:
        page = _lines(lines, scans, digest, warnings)
    return page.model_copy(
        update={
            "cluster": api.name,
            "namespace": namespace,
            "streams": [_stream(scan) for scan in scans],
            "source": f"kubernetes:{api.name}/pods/log",
            "as_of": now,
        }
    )


async def read_all(api: ClusterApi, sources: list[Source], query: LogQuery) -> list[Scan]:
    """Every source, a few at a time. A container without a log is a note; when none has one, it is the error.

    Raises:
        ToolError: what the cluster says, when there is nothing to show at all or the caller may not read.
    """
    places = asyncio.Semaphore(READS_AT_ONCE)
    faults: list[ToolError] = []

    async def read(source: Source) -> Scan:
        async with places:
            try:
                return await read_source(api, source, query)
            except ToolError as error:
                if error.code not in (ErrorCode.INVALID_ARGUMENTS, ErrorCode.NOT_FOUND):
                    raise
                faults.append(error)
                return Scan(source, note=error.message)

    scans = await _gather([read(source) for source in sources])
    if faults and len(faults) == len(scans):
        raise ToolError(
            ErrorCode.NOT_FOUND,
            faults[0].message,
            hint="k8s_get_pods says in what state the container is; previous=never or always reads the other run.",
        )
    return scans


async def _gather(reads: Sequence[Coroutine[None, None, Scan]]) -> list[Scan]:
    """All of them; the first failure ends the rest."""
    tasks = [asyncio.create_task(read) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _lines(lines: list[LogLine], scans: list[Scan], digest: str, warnings: list[str]) -> PodLogs:
    """The newest lines that fit, in the order of time."""
    newest_first = list(reversed(lines))
    page = PodLogs.fit(
        newest_first,
        budget_bytes=BUDGET_BYTES - _streams_bytes(scans),
        cursor=lambda kept: encode((0, sortable(newest_first[max(kept - 1, 0)].time), ""), digest),
        warnings=warnings,
    )
    if page.page.next_cursor is None and lines and any(scan.more for scan in scans):
        page.page.next_cursor = encode((0, sortable(newest_first[-1].time), ""), digest)
        page.page.truncated = True
    page.items.reverse()
    return cast(PodLogs, page)


def _patterns(lines: list[LogLine], warnings: list[str]) -> PodLogs:
    found, beyond = cluster_lines(lines)
    if beyond:
        warnings = [*warnings, f"{beyond} lines had yet other patterns: filter with include or exclude"]
    return cast(PodLogs, PodLogs.fit(list(found), budget_bytes=BUDGET_BYTES, total=len(found), warnings=warnings))


def _stream(scan: Scan) -> LogStream:
    source = scan.source
    return LogStream(
        pod=source.pod,
        container=source.container,
        previous=source.previous,
        lines=len(scan.lines),
        scanned=scan.scanned,
        note=scan.note,
    )


def _streams_bytes(scans: list[Scan]) -> int:
    return sum(len(_stream(scan).model_dump_json()) + 1 for scan in scans)
