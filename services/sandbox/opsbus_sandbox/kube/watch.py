"""Watches: the change log as a stream of ADDED, MODIFIED, DELETED, BOOKMARK and ERROR events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.kube.errors import bad_request, expired, invalid_options, invalid_value
from opsbus_sandbox.kube.listing import matcher_of, resource_version
from opsbus_sandbox.kube.request import flag, number
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.selectors import Matcher
from opsbus_sandbox.kube.store import Change, HistoryGoneError, ObjectStore
from opsbus_sandbox.kube.views import present

Obj = dict[str, Any]

DEFAULT_TIMEOUT_S = 1800
MAX_TIMEOUT_S = 3600
BOOKMARK_EVERY_S = 60.0


@dataclass(frozen=True)
class WatchRequest:
    """What to watch and for how long. `since` 0 means: first everything there is."""

    kind: ResourceType
    namespace: str
    matches: Matcher
    since: int
    initial: bool
    bookmarks: bool
    mark_initial_end: bool
    timeout_s: float


def watch_request(store: ObjectStore, kind: ResourceType, namespace: str, query: Mapping[str, str]) -> WatchRequest:
    """Read the parameters of a watch. Raises ApiError 400 or 422."""
    since = resource_version(query.get("resourceVersion", ""))
    bookmarks = flag(query, "allowWatchBookmarks")
    send_initial = flag(query, "sendInitialEvents")
    if send_initial and query.get("resourceVersionMatch") != "NotOlderThan":
        text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid_options("ListOptions", invalid_value("resourceVersionMatch", "", text))
    if query.get("resourceVersionMatch") and "sendInitialEvents" not in query:
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise invalid_options("ListOptions", invalid_value("resourceVersionMatch", "", text))
    if since > store.version:
        raise bad_request(f"Too large resource version: {since}, current: {store.version}")
    asked = number(query, "timeoutSeconds") or DEFAULT_TIMEOUT_S
    if asked < 0:
        raise invalid_options("ListOptions", invalid_value("timeoutSeconds", asked, "must not be negative"))
    return WatchRequest(
        kind, namespace, matcher_of(kind, query), since or store.version, since == 0 or send_initial, bookmarks,
        send_initial and bookmarks, min(asked, MAX_TIMEOUT_S),
    )  # fmt: skip


async def watch(
    store: ObjectStore, wanted: WatchRequest, *, bookmark_every_s: float = BOOKMARK_EVERY_S
) -> AsyncIterator[Obj]:
    """The events of a watch, until its time is over or the client is too slow for the log (a 410 ERROR event).

    A slow client costs no memory: it reads the store's own bounded log.
    """
    deadline = time.monotonic() + wanted.timeout_s
    position = store.version if wanted.initial else wanted.since
    if wanted.initial:
        for obj in store.list(wanted.kind.plural, wanted.namespace or None):
            if wanted.matches(obj):
                yield _event("ADDED", wanted, obj)
    if wanted.mark_initial_end:
        yield _bookmark(wanted, position, initial_end=True)
    next_bookmark = time.monotonic() + bookmark_every_s
    while True:
        try:
            changes = store.changes_since(position)
        except HistoryGoneError as error:
            yield {"type": "ERROR", "object": expired(str(error)).status}
            return
        for change in changes:
            position = change.version
            if event := _seen(wanted, change):
                yield event
        now = time.monotonic()
        if now >= deadline:
            return
        if wanted.bookmarks and now >= next_bookmark:
            yield _bookmark(wanted, position)
            next_bookmark = now + bookmark_every_s
        pause = min(deadline, next_bookmark if wanted.bookmarks else deadline) - now
        try:
            # Not wait_for, which before Python 3.12 can lose a cancellation.
            async with asyncio.timeout(max(pause, 0.001)):
                await store.wait_beyond(position)
        except TimeoutError:
            continue


def _seen(wanted: WatchRequest, change: Change) -> Obj | None:
    """A change as this watch sees it: an object that comes to match is ADDED, one that ceases to is DELETED."""
    if change.resource != wanted.kind.plural:
        return None
    if wanted.namespace and change.object["metadata"].get("namespace") != wanted.namespace:
        return None
    matched = change.before is not None and wanted.matches(change.before)
    matches = change.kind != "DELETED" and wanted.matches(change.object)
    if matches:
        return _event("MODIFIED" if matched else "ADDED", wanted, change.object)
    return _event("DELETED", wanted, change.object) if matched else None


def _event(kind: str, wanted: WatchRequest, obj: Obj) -> Obj:
    return {"type": kind, "object": present(wanted.kind, obj)}


def _bookmark(wanted: WatchRequest, version: int, *, initial_end: bool = False) -> Obj:
    meta: Obj = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    kind = wanted.kind
    return {"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}}
