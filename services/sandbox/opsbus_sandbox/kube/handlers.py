"""The verbs: what each does with a resource. Who may use them was decided before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from opsbus_sandbox.kube.deletion import DeleteOptions, delete, delete_options
from opsbus_sandbox.kube.errors import ApiError, bad_request, invalid_options, method_not_allowed, unsupported
from opsbus_sandbox.kube.eviction import evict
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.listing import list_page, matcher_of
from opsbus_sandbox.kube.negotiate import read_body
from opsbus_sandbox.kube.patch import MEDIA_TYPES, apply_patch
from opsbus_sandbox.kube.rbac import Authorizer
from opsbus_sandbox.kube.registry import Registry, WriteOptions
from opsbus_sandbox.kube.request import RequestInfo, is_dry_run
from opsbus_sandbox.kube.resources import REVIEWS, ResourceType
from opsbus_sandbox.kube.reviews import answer_review
from opsbus_sandbox.kube.scale import scale_of, set_scale
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.tokens import Tokens
from opsbus_sandbox.kube.views import present, stored_kind, to_stored

Obj = dict[str, Any]

_OPTION_KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


@dataclass(frozen=True)
class Call:
    """One authorized request for a resource."""

    kind: ResourceType
    info: RequestInfo
    user: User
    request: web.Request

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters."""
        return self.request.query


@dataclass(frozen=True)
class Answer:
    """A body, its code, and the warnings that go with it."""

    body: Obj
    code: int = 200
    warnings: tuple[str, ...] = ()


class Handlers:
    """The verbs over one store."""

    def __init__(self, store: ObjectStore, authorizer: Authorizer, tokens: Tokens) -> None:
        self.store = store
        self._tokens = tokens
        self.registry = Registry(store)
        self._authorizer = authorizer

    async def handle(self, call: Call) -> Answer:
        """Carry out any verb but watch and log, which stream. Raises ApiError."""
        info = call.info
        if call.kind in REVIEWS:
            return await self._review(call)
        if info.subresource == "eviction" and info.verb == "create":
            dry_run = is_dry_run(call.query, "CreateOptions")
            body = await read_body(call.request)
            return Answer(evict(self.registry, info.namespace, info.name, body, dry_run=dry_run), 201)
        if info.subresource == "scale" and info.verb in ("get", "update", "patch"):
            return await self._scale(call)
        if info.subresource == "token" and info.verb == "create":
            dry_run, body = is_dry_run(call.query, "CreateOptions"), await read_body(call.request)
            return Answer(self._tokens.issue(info.namespace, info.name, body, dry_run=dry_run), 201)
        if info.subresource == "finalize" and info.verb == "update":
            return await self._update(call)
        if info.subresource not in ("", "status") or (info.subresource and info.verb not in ("get", "update", "patch")):
            raise method_not_allowed()
        verbs = {
            "get": self._get, "list": self._list, "create": self._create, "update": self._update,
            "patch": self._patch, "delete": self._delete, "deletecollection": self._delete_many,
        }  # fmt: skip
        if info.verb not in verbs or info.verb not in call.kind.verbs:
            raise method_not_allowed()
        if (info.verb == "create" and info.name) or (info.verb in ("update", "patch") and not info.name):
            raise method_not_allowed()
        return await verbs[info.verb](call)

    async def _review(self, call: Call) -> Answer:
        if call.info.verb != "create" or call.info.name:
            raise method_not_allowed()
        body = await read_body(call.request)
        if not isinstance(body, dict):
            raise bad_request(f"the body is not a {call.kind.kind}")
        return Answer(answer_review(call.kind, body, call.info.namespace, call.user, self._authorizer), 201)

    async def _get(self, call: Call) -> Answer:
        info = call.info
        return Answer(present(call.kind, self.registry.read(call.kind, _where(call), info.name)))

    async def _list(self, call: Call) -> Answer:
        return Answer(list_page(self.store, call.kind, _where(call), call.query))

    async def _create(self, call: Call) -> Answer:
        options = _write_options(call, "create")
        if call.kind.namespaced and not call.info.namespace:
            raise method_not_allowed()
        body = to_stored(call.kind, await read_body(call.request))
        created = self.registry.create(stored_kind(call.kind), _where(call), body, options)
        return Answer(present(call.kind, created), 201, tuple(options.warnings or ()))

    async def _update(self, call: Call) -> Answer:
        options = _write_options(call, "update")
        info = call.info
        body = to_stored(call.kind, await read_body(call.request))
        updated = self.registry.update(stored_kind(call.kind), _where(call), info.name, body, options, info.subresource)
        return Answer(present(call.kind, updated), 200, tuple(options.warnings or ()))

    async def _patch(self, call: Call) -> Answer:
        options = _write_options(call, "patch")
        info, kind = call.info, stored_kind(call.kind)
        patch = await read_body(call.request, media_types=MEDIA_TYPES)
        before = self.registry.read(kind, _where(call), info.name)
        patched = apply_patch(call.request.content_type, kind.plural, present(call.kind, before), patch)
        # Without a version of its own the patch applies to whatever is there now, and that was read just above.
        patched = to_stored(call.kind, patched)
        if not isinstance(patched.get("metadata"), dict):
            raise bad_request("the patch does not leave an object with metadata")
        updated = self.registry.update(kind, _where(call), info.name, patched, options, info.subresource)
        return Answer(present(call.kind, updated), 200, tuple(options.warnings or ()))

    async def _delete(self, call: Call) -> Answer:
        options = delete_options(call.query, await read_body(call.request))
        kind, info = stored_kind(call.kind), call.info
        gone = delete(self.store, kind, _where(call), info.name, options)
        if kind.returns_deleted or gone["metadata"].get("deletionTimestamp"):
            return Answer(gone)
        details = {"name": info.name, "group": kind.group, "kind": kind.plural, "uid": gone["metadata"]["uid"]}
        details = {key: value for key, value in details.items() if value}
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    async def _delete_many(self, call: Call) -> Answer:
        options = delete_options(call.query, await read_body(call.request))
        kind = stored_kind(call.kind)
        if kind.namespaced and not call.info.namespace:
            raise method_not_allowed()
        matches = matcher_of(call.kind, call.query)
        each = DeleteOptions(options.dry_run, options.grace_seconds, options.policy)
        found = [obj for obj in self.store.list(kind.plural, _where(call) or None) if matches(obj)]
        gone = [
            delete(self.store, kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], each)
            for obj in found
        ]
        meta = {"resourceVersion": str(self.store.version)}
        items = [present(call.kind, obj) for obj in gone]
        return Answer(
            {"kind": f"{kind.kind}List", "apiVersion": call.kind.api_version, "metadata": meta, "items": items}
        )

    async def _scale(self, call: Call) -> Answer:
        info, kind = call.info, call.kind
        if info.verb == "get":
            return Answer(scale_of(self.registry.read(kind, info.namespace, info.name)))
        options = _write_options(call, info.verb)
        if info.verb == "update":
            scale = await read_body(call.request)
        else:
            patch = await read_body(call.request, media_types=MEDIA_TYPES)
            current = scale_of(self.registry.read(kind, info.namespace, info.name))
            scale = apply_patch(call.request.content_type, kind.plural, current, patch)
        return Answer(set_scale(self.registry, kind, info.namespace, info.name, scale, options))


def _where(call: Call) -> str:
    """The namespace as the store knows it: that of a Namespace object itself is empty."""
    return call.info.namespace if call.kind.namespaced else ""


def _write_options(call: Call, verb: str) -> WriteOptions:
    kind = _OPTION_KINDS[verb]
    validation = call.query.get("fieldValidation", "Warn")
    if validation not in ("", "Ignore", "Strict", "Warn"):
        supported = ("", "Ignore", "Strict", "Warn")
        raise invalid_options(kind, unsupported("fieldValidation", validation, supported))
    manager = call.query.get("fieldManager", "")
    if len(manager) > 128:
        raise ApiError(
            422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes'
        )
    warnings: list[str] | None = [] if validation in ("", "Warn") else None
    return WriteOptions(is_dry_run(call.query, kind), validation == "Strict", warnings)
