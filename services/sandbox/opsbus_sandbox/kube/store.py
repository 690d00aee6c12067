"""The cluster's memory: objects, one growing resource version, and a bounded log of changes.

Everything that reads or writes the estate goes through `ObjectStore`. What an object means (defaults, validation,
status, who may touch it) is not known here.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.clock import Clock, timestamp
from opsbus_sandbox.kube.resources import BY_PLURAL

Obj = dict[str, Any]
Objects = list[Obj]
Key = tuple[str, str]  # (namespace, name); the namespace is "" for cluster-scoped objects


class StoreError(Exception):
    """A write the store refused; the subclass says why."""


class AlreadyExistsError(StoreError):
    """An object of that name exists."""


class MissingError(StoreError):
    """No object of that name exists."""


class ConflictError(StoreError):
    """The object changed since the caller read it."""


class HistoryGoneError(StoreError):
    """The asked-for resource version is older than the change log."""


@dataclass(frozen=True)
class Change:
    """One step of history. `kind` is ADDED, MODIFIED or DELETED; `before` is None for ADDED."""

    version: int
    kind: str
    resource: str
    object: Obj
    before: Obj | None


Changes = list[Change]


def key_of(obj: Obj) -> Key:
    """(namespace, name) of an object."""
    meta = obj["metadata"]
    return (meta.get("namespace", ""), meta["name"])


class ObjectStore:
    """All objects of the estate, in memory.

    Objects handed out are shared, not copied: read them, never change them. A writer copies, changes, and calls
    `update`. All methods are synchronous and therefore atomic on the event loop.
    """

    def __init__(self, clock: Clock | None = None, *, history_limit: int = 20_000, seed: int = 7) -> None:
        self.clock = clock or Clock()
        self.version = 1000
        self._objects: dict[str, dict[Key, Obj]] = {plural: {} for plural in BY_PLURAL}
        self._history: deque[Change] = deque(maxlen=history_limit)
        self._compacted = self.version
        self._changed = asyncio.Event()
        self.random = random.Random(seed)  # noqa: S311 - names and uids that repeat from run to run are the point

    def list(self, resource: str, namespace: str | None = None) -> Objects:
        """Current objects of a plural such as "pods", by namespace and name; all namespaces when None."""
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects) if namespace is None or key[0] == namespace]

    def get(self, resource: str, namespace: str, name: str) -> Obj | None:
        """One object, or None. The namespace of a cluster-scoped object is ""."""
        return self._objects[resource].get((namespace, name))

    def create(self, resource: str, obj: Obj) -> Obj:
        """Store a new object, stamping uid, creation time and version where absent. Raises AlreadyExistsError."""
        key = key_of(obj)
        if key in self._objects[resource]:
            raise AlreadyExistsError(key[1])
        stored = copy.deepcopy(obj)
        self.stamp(resource, stored)
        self._record("ADDED", resource, stored, None)
        self._objects[resource][key] = stored
        return stored

    def stamp(self, resource: str, obj: Obj) -> None:
        """Give a new object, in place, what the server owns: uid, creation time, generation."""
        meta = obj["metadata"]
        meta.setdefault("uid", str(uuid.UUID(int=self.random.getrandbits(128), version=4)))
        meta.setdefault("creationTimestamp", timestamp(self.clock.now()))
        if BY_PLURAL[resource].has_generation:
            meta.setdefault("generation", 1)

    def update(self, resource: str, obj: Obj, *, expected_version: str | None = None) -> Obj:
        """Replace an object. A change of `spec` raises its generation; an update that changes nothing is not one.

        Raises MissingError, or ConflictError when `expected_version` is given and is not the stored version.
        """
        key = key_of(obj)
        before = self._objects[resource].get(key)
        if before is None:
            raise MissingError(key[1])
        if expected_version is not None and expected_version != before["metadata"]["resourceVersion"]:
            raise ConflictError(key[1])
        stored = self.prepared_update(resource, before, obj)
        if stored == before:
            return before
        self._record("MODIFIED", resource, stored, before)
        self._objects[resource][key] = stored
        return stored

    @staticmethod
    def prepared_update(resource: str, before: Obj, obj: Obj) -> Obj:
        """What `update` would store, with the metadata the server owns carried over from `before`."""
        stored = copy.deepcopy(obj)
        meta, old_meta = stored["metadata"], before["metadata"]
        for name in ("uid", "creationTimestamp", "resourceVersion", "generation"):
            if name in old_meta:
                meta[name] = old_meta[name]
        if BY_PLURAL[resource].has_generation and stored.get("spec") != before.get("spec"):
            meta["generation"] = old_meta.get("generation", 0) + 1
        return stored

    def delete(self, resource: str, namespace: str, name: str) -> Obj:
        """Remove an object now and return its last form. Graces and finalizers are the caller's. MissingError."""
        before = self._objects[resource].get((namespace, name))
        if before is None:
            raise MissingError(name)
        last = copy.deepcopy(before)
        self._record("DELETED", resource, last, before)
        del self._objects[resource][(namespace, name)]
        return last

    def _record(self, kind: str, resource: str, obj: Obj, before: Obj | None) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if len(self._history) == self._history.maxlen:
            self._compacted = self._history[0].version
        self._history.append(Change(self.version, kind, resource, obj, before))
        self._changed.set()
        self._changed = asyncio.Event()

    def changes_since(self, version: int) -> Changes:
        """Every change after `version`, oldest first. Raises HistoryGoneError when the log no longer reaches back."""
        if version < self._compacted:
            raise HistoryGoneError(f"too old resource version: {version} ({self._compacted})")
        missed = self.version - version
        if missed <= 0:
            return []
        # Versions are consecutive, so the tail of the log is exactly what was missed.
        newest_first = list(itertools.islice(reversed(self._history), missed))
        newest_first.reverse()
        return newest_first

    async def wait_beyond(self, version: int) -> None:
        """Return as soon as the store's version is greater than `version`."""
        while self.version <= version:
            await self._changed.wait()

    def list_at(self, resource: str, namespace: str | None, version: int) -> Objects:
        """The list as it was at `version`, by undoing newer changes. Raises HistoryGoneError."""
        objects = dict(self._objects[resource])
        for change in reversed(self.changes_since(version)):
            if change.resource != resource:
                continue
            key = key_of(change.object)
            if change.before is None:
                objects.pop(key, None)
            else:
                objects[key] = change.before
        return [objects[key] for key in sorted(objects) if namespace is None or key[0] == namespace]

    def compact(self) -> None:
        """Forget all history, as etcd's compaction does: older watches and continue tokens expire."""
        self._history.clear()
        self._compacted = self.version
