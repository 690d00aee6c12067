"""The two answers that go on: watches and followed logs, written to the client as things happen."""

from __future__ import annotations

import json
from collections.abc import Iterator

from aiohttp import web

from opsbus_sandbox.kube.errors import ApiError, method_not_allowed
from opsbus_sandbox.kube.handlers import Call
from opsbus_sandbox.kube.negotiate import accepted_form
from opsbus_sandbox.kube.podlog import (
    LogOptions,
    choose_container,
    encode,
    find_run,
    follow,
    limited,
    log_options,
    read_lines,
)
from opsbus_sandbox.kube.registry import Registry
from opsbus_sandbox.kube.runtime import ContainerRun, LogLine, Software
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.tables.render import event_in_form
from opsbus_sandbox.kube.watch import watch, watch_request

_BATCH_BYTES = 64 * 1024


async def stream_watch(store: ObjectStore, call: Call, *, bookmark_every_s: float) -> web.StreamResponse:
    """One JSON event per line, until the watch ends. Raises ApiError before the first byte only."""
    form = accepted_form(call.request.headers.get("Accept", ""))
    wanted = watch_request(store, call.kind, call.info.namespace if call.kind.namespaced else "", call.query)
    include = call.query.get("includeObject", "Metadata")
    response = web.StreamResponse(headers={"Content-Type": form.content_type, "Cache-Control": "no-cache, private"})
    await response.prepare(call.request)
    async for event in watch(store, wanted, bookmark_every_s=bookmark_every_s):
        shown = event_in_form(form, call.kind, event, include)
        await response.write(json.dumps(shown).encode() + b"\n")
    await response.write_eof()
    return response


async def stream_log(registry: Registry, software: Software, call: Call) -> web.StreamResponse:
    """A container's log as plain text. Raises ApiError before the first byte only."""
    if call.info.verb != "get":
        raise method_not_allowed()
    info, now = call.info, registry.store.clock.now()
    pod = registry.read(call.kind, info.namespace, info.name)
    options = log_options(call.query, info.name, now)
    container = choose_container(pod, options.container)
    run = find_run(pod, container, previous=options.previous)
    if run is None:
        return web.Response(status=204)  # as the API server, which has no node to ask
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(call.request)
    left = await _write(response, read_lines(software, run, options, now), options, options.limit_bytes)
    if options.follow and run.finished is None and left != 0:

        def current() -> ContainerRun | None:
            found = registry.store.get("pods", info.namespace, info.name)
            try:
                return find_run(found, container, previous=False) if found else None
            except ApiError:
                return None

        async for lines in follow(software, current, run, now):
            left = await _write(response, lines, options, left)
            if left == 0:
                break
    await response.write_eof()
    return response


async def _write(
    response: web.StreamResponse, lines: list[LogLine], options: LogOptions, left: int | None
) -> int | None:
    """Write lines in large pieces; how many bytes may still follow is returned."""
    chunks = limited(encode(iter(lines), timestamps=options.timestamps), left)
    for chunk in _batches(chunks):
        await response.write(chunk)
        if left is not None:
            left -= len(chunk)
    return left


def _batches(chunks: Iterator[bytes]) -> Iterator[bytes]:
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        if len(gathered) >= _BATCH_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
