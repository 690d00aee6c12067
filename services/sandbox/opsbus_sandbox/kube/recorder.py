"""Events about objects: recorded, counted when they repeat, and forgotten after an hour as the API server does."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import parse_timestamp, timestamp
from opsbus_sandbox.kube.store import ObjectStore, key_of

Obj = dict[str, Any]

KEPT = timedelta(hours=1)
MAX_EVENTS = 3000


class Recorder:
    """Writes core/v1 events into a store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # (uid, reason, message) -> key of the event that counts it
        self._known: dict[tuple[str, str, str], tuple[str, str]] = {
            (event["involvedObject"].get("uid", ""), event["reason"], event["message"]): key_of(event)
            for event in store.list("events")
        }

    def record(
        self, about: Obj, kind: str, reason: str, message: str, component: str, *, host: str = "", container: str = "",
        first: datetime | None = None, last: datetime | None = None, count: int = 1,
    ) -> None:  # fmt: skip
        """Record one event, or count it up when the same was recorded before. `kind` is Normal or Warning."""
        last = last or self._store.clock.now()
        meta = about["metadata"]
        key = (meta["uid"], reason, message)
        if known := self._known.get(key):
            stored = self._store.get("events", *known)
            if stored is not None:
                again = copy.deepcopy(stored)
                again["count"] += count
                again["lastTimestamp"] = timestamp(last)
                self._store.update("events", again)
                return
        self._make_room()
        event = _event(about, kind, reason, message, component, host, container)
        event["metadata"]["name"] = f"{meta['name']}.{self._store.random.getrandbits(64):016x}"
        event["metadata"]["creationTimestamp"] = timestamp(first or last)
        event |= {"firstTimestamp": timestamp(first or last), "lastTimestamp": timestamp(last), "count": count}
        created = self._store.create("events", event)
        self._known[key] = (created["metadata"]["namespace"], created["metadata"]["name"])

    def forget_old(self) -> None:
        """Drop events that have not repeated for an hour, and what is known of events that are gone."""
        oldest = self._store.clock.now() - KEPT
        for event in self._store.list("events"):
            seen = event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]
            if parse_timestamp(seen) < oldest:
                self._store.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])
        self._known = {k: at for k, at in self._known.items() if self._store.get("events", *at) is not None}

    def _make_room(self) -> None:
        events = self._store.list("events")
        if len(events) < MAX_EVENTS:
            return
        events.sort(key=lambda event: str(event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]))
        for event in events[: MAX_EVENTS // 10]:
            self._store.delete("events", event["metadata"]["namespace"], event["metadata"]["name"])


def _event(about: Obj, kind: str, reason: str, message: str, component: str, host: str, container: str) -> Obj:
    meta = about["metadata"]
    reference = {
        "kind": about["kind"],
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "uid": meta["uid"],
        "apiVersion": about["apiVersion"],
        "resourceVersion": meta["resourceVersion"],
    }
    if container:
        reference["fieldPath"] = f"spec.containers{{{container}}}"
    source = {"component": component} | ({"host": host} if host else {})
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": meta.get("namespace") or "default"},
        "involvedObject": {name: value for name, value in reference.items() if value},
        "type": kind,
        "reason": reason,
        "message": message,
        "source": source,
        "reportingComponent": component,
        "reportingInstance": host,
    }
