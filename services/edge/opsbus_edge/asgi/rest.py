"""REST for those without MCP: the same pipeline under ``/api/v1``. Its description: openapi.py."""

import re
from typing import Any
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsbus_contracts.calls import ClientInfo, Status
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge import jsonin
from opsbus_edge.answers import error_of
from opsbus_edge.asgi import audit_events
from opsbus_edge.asgi.envelope import idempotency_key, trace_field
from opsbus_edge.asgi.exchange import Exchange
from opsbus_edge.asgi.http import (
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    client_address,
    error_answer,
    is_json,
    read_body,
)
from opsbus_edge.asgi.oauth import step_up
from opsbus_edge.catalog import InvalidCursorError, Listing
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, Reply, Request, error_body

PREFIX = "/api/v1"
_EXECUTE = re.compile(r"^/tools/([^/]{1,128})/execute$")
_TOOL = re.compile(r"^/tools/([^/]{1,128})$")
_GETS = frozenset(
    {
        "/tools",
        "/resources",
        "/resources/templates",
        "/resources/read",
        "/prompts",
        "/catalog/services",
        "/catalog/refusals",
        audit_events.PATH,
    }
)
_PLATFORM_READ = "platform:read"
QUERY_CHARS_MAX = 8_192


class Execute(BaseModel):
    """Body of ``POST /tools/{name}/execute``."""

    model_config = ConfigDict(extra="forbid")

    arguments: dict[str, Any] = Field(default_factory=dict, description="The tool's arguments, by its input schema.")
    timeout_s: float | None = Field(default=None, ge=1, le=3600, description="Not longer than this. Seconds.")


class ExecuteNamed(Execute):
    """Body of ``POST /mcp/tools/execute``: the tool is named in the body, as ``name`` or ``tool``."""

    name: str | None = Field(default=None, min_length=1, max_length=128)
    tool: str | None = Field(default=None, min_length=1, max_length=128)


class Rest:
    """The REST face of one edge. Callers are authenticated already."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, headers: dict[str, str]
    ) -> None:
        """Answer a request below ``/api/v1``. Raises BodyError and Disconnected of read_body."""
        path, method = scope["path"][len(PREFIX) :], scope["method"]
        executes = _EXECUTE.match(path)
        if executes or path == "/mcp/tools/execute":
            if method != "POST":
                await _not_allowed(send, "POST")
                return
            await self._execute(executes[1] if executes else None, scope, receive, send, caller, headers)
            return
        single = _TOOL.match(path)
        if path not in _GETS and not single:
            error = error_body(
                ErrorCode.NOT_FOUND, "there is nothing at this path", hint="/docs and /openapi.json say what there is."
            )
            await answer_error(send, error)
            return
        if method not in ("GET", "HEAD"):
            await _not_allowed(send, "GET, HEAD")
            return
        if single:
            await self._one_tool(single[1], send, caller, head=method == "HEAD")
            return
        query = _query(scope)
        if isinstance(query, ErrorBody):
            await answer_error(send, query)
        elif path == "/resources/read":
            await self._read(query, scope, receive, send, caller, headers)
        elif path == audit_events.PATH:
            await self._events(query, scope, receive, send, caller, headers)
        else:
            await self._show(path, query, send, caller, head=method == "HEAD")

    async def _show(self, path: str, query: dict[str, str], send: Send, caller: Caller, *, head: bool) -> None:
        catalog, cursor = self._edge.catalog, query.get("cursor") or None
        try:
            match path:
                case "/tools":
                    body = _page(b"tools", catalog.tools_page(caller, cursor))
                case "/resources":
                    body = _page(b"resources", catalog.resources_page(caller, cursor))
                case "/resources/templates":
                    body = _page(b"resource_templates", catalog.templates_page(caller, cursor))
                case "/prompts":
                    body = _page(b"prompts", catalog.prompts_page(caller, cursor))
                case _:
                    shown = self._platform(path, caller)
                    if isinstance(shown, ErrorBody):
                        await answer_error(send, shown)
                        return
                    body = orjson.dumps(shown)
        except InvalidCursorError as error:
            refused = error_body(ErrorCode.INVALID_REQUEST, str(error), hint="Begin without a cursor.")
            await answer_error(send, refused)
            return
        await answer(send, 200, body, head=head)

    def _platform(self, path: str, caller: Caller) -> dict[str, Any] | ErrorBody:
        if not caller.sees(_PLATFORM_READ):
            return error_body(
                ErrorCode.FORBIDDEN,
                f"the permission {_PLATFORM_READ!r} is needed",
                hint="Ask whoever hands out roles.",
                details={"permission": _PLATFORM_READ},
            )
        catalog = self._edge.catalog
        if path == "/catalog/services":
            return {"services": catalog.services()}
        return {
            "refusals": [
                {"service": r.service, "instance": r.instance, "item": r.item, "reason": r.reason}
                for r in catalog.refusals
            ]
        }

    async def _one_tool(self, name: str, send: Send, caller: Caller, *, head: bool) -> None:
        tool = self._edge.catalog.tool(mcp_name_of(name))
        if tool is None or not caller.sees(tool.spec.permission, tool.name):
            error = error_body(
                ErrorCode.UNKNOWN_TOOL,
                f"there is no tool {name[:100]!r}",
                hint="GET /api/v1/tools names those there are.",
            )
            await answer_error(send, error)
            return
        await answer(send, 200, tool.wire, head=head)

    async def _execute(
        self,
        name: str | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        caller: Caller,
        headers: dict[str, str],
    ) -> None:
        settings = self._edge.settings
        body = await read_body(receive, headers, settings.body_bytes_max, settings.body_timeout_s)
        if body and not is_json(headers):
            error = error_body(
                ErrorCode.INVALID_REQUEST, "the body must be JSON", hint="Content-Type: application/json"
            )
            await answer_error(send, error, 415)
            return
        try:
            given = jsonin.loads(body, settings.json_depth_max) if body.strip() else {}
            wanted = (Execute if name is not None else ExecuteNamed).model_validate(given)
            arguments = jsonin.dumps(wanted.arguments)
        except jsonin.BadJsonError as error:
            await answer_error(send, error_body(ErrorCode.INVALID_REQUEST, str(error), hint=jsonin.HINT))
            return
        except ValidationError as error:
            await answer_error(send, _invalid(error))
            return
        if isinstance(wanted, ExecuteNamed):
            if (wanted.name is None) == (wanted.tool is None):
                await answer_error(
                    send, error_body(ErrorCode.INVALID_REQUEST, "exactly one of name and tool is needed")
                )
                return
            name = wanted.name or wanted.tool
        request = self._request("tools/call", mcp_name_of(name or ""), arguments, caller, headers)
        request.address = client_address(scope)
        request.timeout_s = wanted.timeout_s
        await self._run(request, receive, send)

    async def _read(
        self,
        query: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        caller: Caller,
        headers: dict[str, str],
    ) -> None:
        uri = query.get("uri", "")
        if not 0 < len(uri) <= 2048:
            error = error_body(
                ErrorCode.INVALID_REQUEST,
                "the query needs uri, of at most 2048 characters",
                hint="?uri=enterprise://...",
            )
            await answer_error(send, error)
            return
        request = self._request("resources/read", uri, b"{}", caller, headers)
        request.address = client_address(scope)
        await self._run(request, receive, send)

    async def _events(
        self,
        query: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
        caller: Caller,
        headers: dict[str, str],
    ) -> None:
        arguments = audit_events.arguments_of(query)
        if isinstance(arguments, ErrorBody):
            await answer_error(send, arguments)
            return
        request = self._request("tools/call", audit_events.TOOL, arguments, caller, headers)
        request.address = client_address(scope)
        exchange = Exchange(receive, send, streams=False, keep_alive_s=self._edge.settings.keep_alive_s)
        async with exchange:
            reply = await self._edge.pipeline.run(request)
            lines = audit_events.lines_of(reply)
            if lines is None:
                await exchange.finish(*_answered(request, reply))
            else:
                body, more = lines
                called = (b"opsbus-call", request.call.encode())
                await exchange.finish(200, body, [called, *more], kind=audit_events.NDJSON)

    def _request(self, method: str, target: str, params: bytes, caller: Caller, headers: dict[str, str]) -> Request:
        return Request(
            method=method,
            target=target,
            params=params,
            caller=caller,
            client=ClientInfo(name=headers.get("user-agent", "")[:200]),
            protocol="rest",
            transport="http",
            idempotency_key=idempotency_key(headers),
            traceparent=trace_field(headers.get("traceparent")),
            tracestate=trace_field(headers.get("tracestate")),
        )

    async def _run(self, request: Request, receive: Receive, send: Send) -> None:
        missing = step_up(self._edge.settings, self._edge.catalog, request.caller, request.method, request.target)
        if missing is not None:
            await answer_error(send, missing[0], 403, missing[1])
            return
        exchange = Exchange(receive, send, streams=False, keep_alive_s=self._edge.settings.keep_alive_s)
        async with exchange:
            reply = await self._edge.pipeline.run(request)
            await exchange.finish(*_answered(request, reply))


def _answered(request: Request, reply: Reply) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of a reply."""
    headers = [(b"opsbus-call", request.call.encode()), (b"opsbus-executed", reply.executed.value.encode())]
    if reply.status is Status.OK:
        return 200, reply.body, headers
    if reply.status is Status.INPUT_REQUIRED:
        error = error_body(
            ErrorCode.MISSING_CAPABILITY,
            "the tool asks its user something, which REST cannot pass on",
            hint="Call it with an MCP client that can elicit, or give what it asks for as arguments.",
        )
    else:
        error = error_of(reply)
    status, body, more = error_answer(error)
    return status, body, [*headers, *more]


def mcp_name_of(name: str) -> str:
    """``k8s:get_pods``, as other gateways have it, is ``k8s_get_pods``."""
    service, colon, tool = name.partition(":")
    return f"{service.replace('-', '_')}_{tool}" if colon else name


def _page(kind: bytes, listing: Listing) -> bytes:
    return b'{"' + kind + b'":' + listing.items_json + b',"next_cursor":' + orjson.dumps(listing.next_cursor) + b"}"


def _query(scope: Scope) -> dict[str, str] | ErrorBody:
    raw = scope["query_string"]
    if len(raw) > QUERY_CHARS_MAX:
        return error_body(ErrorCode.INVALID_REQUEST, f"the query has more than {QUERY_CHARS_MAX} characters")
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20))
    except ValueError:
        return error_body(ErrorCode.INVALID_REQUEST, "the query is not valid")


def _invalid(error: ValidationError) -> ErrorBody:
    problems = [
        {"field": ".".join(str(part) for part in item["loc"]) or "body", "problem": item["msg"]}
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    return error_body(
        ErrorCode.INVALID_ARGUMENTS,
        f"{problems[0]['field']}: {problems[0]['problem']}"[:300],
        hint='The body is {"arguments": {...}}; /openapi.json describes it.',
        details={"errors": problems},
    )


async def _not_allowed(send: Send, allow: str) -> None:
    error = error_body(ErrorCode.INVALID_REQUEST, "this method is not allowed here", hint=f"Use {allow}.")
    await answer_error(send, error, 405, [("allow", allow)])
