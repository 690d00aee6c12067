"""The HTTP face: each request is authenticated, read, authorized and handed to its verb; each failure is a Status."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import web

from opsbus_sandbox.kube.discovery import (
    aggregated,
    api_group,
    api_groups,
    api_resources,
    api_versions,
    version_info,
)
from opsbus_sandbox.kube.errors import ApiError, internal_error, method_not_allowed, unknown_resource
from opsbus_sandbox.kube.handlers import Answer, Call, Handlers
from opsbus_sandbox.kube.identity import User, authenticate, denied, impersonated
from opsbus_sandbox.kube.negotiate import JSON, MAX_BODY_BYTES, accepted_form
from opsbus_sandbox.kube.openapi import PROTOBUF, openapi_json, openapi_protobuf
from opsbus_sandbox.kube.rbac import Authorizer, Question
from opsbus_sandbox.kube.request import RequestInfo, parse_path
from opsbus_sandbox.kube.runtime import Software
from opsbus_sandbox.kube.store import ObjectStore
from opsbus_sandbox.kube.streams import stream_log, stream_watch
from opsbus_sandbox.kube.tables.render import in_form
from opsbus_sandbox.kube.tokens import Tokens
from opsbus_sandbox.kube.versions import Served

Obj = dict[str, Any]
log = logging.getLogger(__name__)


class KubeServer:
    """One API server over one store."""

    def __init__(
        self, store: ObjectStore, software: Software, tokens: Mapping[str, User], *, served: Served,
        bookmark_every_s: float = 60.0,
    ) -> None:  # fmt: skip
        self._store = store
        self._software = software
        self._tokens = Tokens(store, tokens)
        self._served = served
        self._version = served.git_version
        self._bookmark_every_s = bookmark_every_s
        self._authorizer = Authorizer(store)
        self._streams: set[asyncio.Future[web.StreamResponse]] = set()
        self._handlers = Handlers(store, self._authorizer, self._tokens)

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.on_shutdown.append(self._close_streams)
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except ApiError as error:
            return _status_response(error)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return _status_response(internal_error())

    async def _route(self, request: web.Request) -> web.StreamResponse:
        user = authenticate(request.headers, self._tokens)
        user = impersonated(user, request.headers, self._authorizer)
        info = parse_path(request.method, request.path, request.query)
        if info is None:
            question = Question(request.method.lower(), path=request.path)
            self._authorize(user, question)
            return self._plain(request)
        self._authorize(user, _question(info))
        if self._served.is_down(info.group, info.version):
            raise ApiError(503, "ServiceUnavailable", "service unavailable")
        kind = self._served.kinds.get((info.group, info.version, info.resource))
        if kind is None:
            raise unknown_resource()
        if info.subresource and info.subresource not in kind.subresources:
            raise unknown_resource()
        call = Call(kind, info, user, request)
        if info.verb == "watch" and "watch" in kind.verbs:
            return await self._while_open(stream_watch(self._store, call, bookmark_every_s=self._bookmark_every_s))
        if info.subresource == "log":
            return await self._while_open(stream_log(self._handlers.registry, self._software, call))
        form = accepted_form(request.headers.get("Accept", ""))
        answer = await self._handlers.handle(call)
        body = in_form(form, kind, answer.body, request.query.get("includeObject", "Metadata"))
        return _json_response(body, answer, form.content_type)

    async def _while_open(self, stream: Coroutine[Any, Any, web.StreamResponse]) -> web.StreamResponse:
        """Await a stream that may last for ever, unless the server closes."""
        task = asyncio.ensure_future(stream)
        self._streams.add(task)
        try:
            return await task
        finally:
            task.cancel()
            self._streams.discard(task)

    async def _close_streams(self, _: web.Application) -> None:
        for task in self._streams:
            task.cancel()

    def _authorize(self, user: User, question: Question) -> None:
        if not self._authorizer.allows(user.name, user.groups, question):
            raise denied(user, question)

    def _plain(self, request: web.Request) -> web.Response:
        """Everything that is not a resource: discovery, version, health, OpenAPI."""
        parts = [part for part in request.path.split("/") if part]
        body: Obj | None = None
        if parts[:1] and parts[0] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        if parts in (["openapi", "v2"], ["swagger.json"]):
            return self._openapi(request)
        if parts == ["version"]:
            body = version_info(self._version)
        elif parts == ["api"]:
            body = api_versions(request.host)
        elif parts == ["apis"]:
            body = api_groups(self._served)
        elif parts == ["api", "v1"]:
            body = api_resources(self._served, "", "v1")
        elif parts[:1] == ["apis"] and len(parts) == 2:
            body = api_group(self._served, parts[1])
        elif parts[:1] == ["apis"] and len(parts) == 3:
            body = api_resources(self._served, parts[1], parts[2])
        elif not parts:
            body = {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"]}
        if body is None:
            down = len(parts) == 3 and self._served.is_down(parts[1], parts[2])
            text = "service unavailable\n" if down else "404 page not found\n"
            return web.Response(status=503 if down else 404, text=text)
        whole = None
        if parts in (["api"], ["apis"]):
            whole = aggregated(self._served, request.headers.get("Accept", ""), core=parts == ["api"])
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if whole is not None:
            return _json_response(whole[0], Answer(whole[0]), whole[1])
        return _json_response(body, Answer(body), JSON)

    def _openapi(self, request: web.Request) -> web.Response:
        if "protobuf" in request.headers.get("Accept", ""):
            return web.Response(body=openapi_protobuf(self._served), headers={"Content-Type": PROTOBUF})
        body = openapi_json(self._served)
        return _json_response(body, Answer(body), JSON)


def _question(info: RequestInfo) -> Question:
    return Question(info.verb, info.group, info.full_resource, info.name, info.namespace)


def _json_response(body: Obj, answer: Answer, content_type: str) -> web.Response:
    response = web.Response(body=json.dumps(body).encode(), status=answer.code, headers={"Content-Type": content_type})
    for warning in answer.warnings:
        escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _status_response(error: ApiError) -> web.Response:
    headers = {"Content-Type": JSON}
    if retry := (error.details or {}).get("retryAfterSeconds"):
        headers["Retry-After"] = str(retry)
    if error.code == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="lab"'
    return web.Response(body=json.dumps(error.status).encode(), status=error.code, headers=headers)
