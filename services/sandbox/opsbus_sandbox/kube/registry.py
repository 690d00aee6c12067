"""Writes through the API: decode, default, validate, admit, store. What HTTP and permissions are is not known here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.kube.admission import admit_create
from opsbus_sandbox.kube.deletion import finish_if_released
from opsbus_sandbox.kube.errors import already_exists, bad_request, conflict, not_found
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.objects.decode import decode, strict_error
from opsbus_sandbox.kube.objects.defaults import apply_defaults, new_status
from opsbus_sandbox.kube.objects.validate import validate_create, validate_update
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.store import AlreadyExistsError, ConflictError, MissingError, ObjectStore

Obj = dict[str, Any]
_MAX_GENERATED_PREFIX = 58


@dataclass(frozen=True)
class WriteOptions:
    """How a write is asked for. `strict` refuses unknown fields; else they are dropped and listed in `warnings`."""

    dry_run: bool = False
    strict: bool = False
    warnings: list[str] | None = None


class Registry:
    """Create and update objects as the API server does."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def read(self, kind: ResourceType, namespace: str, name: str) -> Obj:
        """The stored object. Raises ApiError 404."""
        found = self.store.get(kind.plural, namespace, name)
        if found is None:
            raise not_found(kind, name)
        return found

    def create(self, kind: ResourceType, namespace: str, body: Any, options: WriteOptions) -> Obj:
        """Store a new object, or with dry-run only show it. Raises ApiError."""
        obj = self._decoded(kind, body, options)
        meta = obj["metadata"] = dict(obj["metadata"])
        _place(meta, namespace)
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        for field in ("uid", "creationTimestamp", "deletionTimestamp", "generation", "resourceVersion"):
            meta.pop(field, None)
        if not meta.get("name") and meta.get("generateName"):
            prefix = str(meta["generateName"])[:_MAX_GENERATED_PREFIX]
            meta["name"] = prefix + random_suffix(self.store.random)
        if "status" in kind.subresources:
            obj["status"] = new_status(kind.plural)
        if not meta.get("name"):
            meta["name"] = ""
            self._default(kind, obj)
            validate_create(kind, obj)
        self.store.stamp(kind.plural, obj)
        self._default(kind, obj)
        if kind.plural == "services":
            self._allocate_address(obj)
        admit_create(self.store, kind, obj)
        validate_create(kind, obj)
        if options.dry_run:
            if self.store.get(kind.plural, namespace, meta["name"]) is not None:
                raise already_exists(kind, meta["name"])
            return obj
        try:
            return self.store.create(kind.plural, obj)
        except AlreadyExistsError as error:
            raise already_exists(kind, meta["name"]) from error

    def update(
        self, kind: ResourceType, namespace: str, name: str, body: Any, options: WriteOptions, subresource: str = ""
    ) -> Obj:
        """Replace an object, or its status, or with dry-run only show it. Raises ApiError."""
        before = self.read(kind, namespace, name)
        obj = self._decoded(kind, body, options)
        meta = obj["metadata"] = dict(obj["metadata"])
        _place(meta, namespace)
        if meta.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        self._check_uid(kind, before, meta)
        expected = meta.get("resourceVersion") or None
        if expected is not None and not str(expected).isdigit():
            raise bad_request(f'Invalid value: "{expected}": strconv.ParseUint: parsing "{expected}": invalid syntax')
        obj = _keep_other_half(kind, before, obj, subresource)
        self._default(kind, obj)
        validate_update(kind, before, obj)
        if options.dry_run:
            if expected not in (None, before["metadata"]["resourceVersion"]):
                raise conflict(kind, name)
            return self.store.prepared_update(kind.plural, before, obj)
        try:
            updated = self.store.update(kind.plural, obj, expected_version=expected)
            finish_if_released(self.store, kind, updated)
            return updated
        except ConflictError as error:
            raise conflict(kind, name) from error
        except MissingError as error:
            raise not_found(kind, name) from error

    def _decoded(self, kind: ResourceType, body: Any, options: WriteOptions) -> Obj:
        obj, unknown = decode(kind, body)
        if unknown and options.strict:
            raise strict_error(kind, unknown)
        if options.warnings is not None:
            options.warnings.extend(f'unknown field "{path}"' for path in unknown)
        return copy.deepcopy(obj)

    @staticmethod
    def _default(kind: ResourceType, obj: Obj) -> None:
        try:
            apply_defaults(kind.plural, obj)
        except (AttributeError, TypeError, ValueError) as error:
            raise bad_request(f"{kind.kind} cannot be handled: a field has the wrong type: {error}") from error

    @staticmethod
    def _check_uid(kind: ResourceType, before: Obj, meta: Obj) -> None:
        stored, given = before["metadata"]["uid"], meta.get("uid")
        if given and given != stored:
            why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {stored}"
            raise conflict(kind, before["metadata"]["name"], why)

    def _allocate_address(self, service: Obj) -> None:
        spec = service["spec"]
        if spec.get("clusterIP") or spec.get("type") == "ExternalName":
            return
        taken = {other["spec"].get("clusterIP") for other in self.store.list("services")}
        free = (f"10.96.{200 + n // 254}.{n % 254 + 1}" for n in range(55 * 254))
        spec["clusterIP"] = next(address for address in free if address not in taken)
        spec["clusterIPs"] = [spec["clusterIP"]]


def _place(meta: Obj, namespace: str) -> None:
    if not namespace:
        meta.pop("namespace", None)
    elif meta.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _keep_other_half(kind: ResourceType, before: Obj, obj: Obj, subresource: str) -> Obj:
    """A write of the status keeps the rest, a write of the rest keeps the status and what only the server sets."""
    if subresource == "status":
        merged = copy.deepcopy(before)
        merged["status"] = obj.get("status") or {}
        merged["metadata"]["resourceVersion"] = obj["metadata"].get("resourceVersion")
        return merged
    if subresource == "finalize":
        merged = copy.deepcopy(before)
        merged["spec"]["finalizers"] = (obj.get("spec") or {}).get("finalizers") or []
        return merged
    if kind.plural == "namespaces":
        obj["spec"] = copy.deepcopy(before["spec"])  # only its finalize subresource changes it
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        obj["metadata"].pop(field, None)
        if field in before["metadata"]:
            obj["metadata"][field] = before["metadata"][field]
    if "status" in kind.subresources:
        obj.pop("status", None)
        if "status" in before:
            obj["status"] = copy.deepcopy(before["status"])
    return obj
