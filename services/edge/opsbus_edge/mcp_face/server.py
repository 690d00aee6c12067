"""The SDK's low-level server with the edge behind its handlers. The catalogue knows what there is; nothing is here."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions

from opsbus_contracts.errors import ErrorCode
from opsbus_edge.answers import LEGACY
from opsbus_edge.context import Edge
from opsbus_edge.mcp_face.exchange import Ctx, caller_of
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import counted, guard, refuse
from opsbus_edge.mcp_face.listings import list_page
from opsbus_edge.mcp_face.operations import operate
from opsbus_edge.mcp_face.sessions import session_of
from opsbus_edge.mcp_face.subscriptions import Changes, subscribe, unsubscribe
from opsbus_edge.tasks import EXTENSION

INSTRUCTIONS = (
    "Tools of this server act on the company's real systems. A tool's name begins with the service that owns it. "
    "Tools that change something take a reason and answer with a plan to confirm first; read before you write."
)

DISCOVER_TTL_MS = 60_000

Handler = Callable[[Ctx, Any], Awaitable[Any]]


class EdgeServer(Server[Any]):
    """Says in the older eras too that lists change; the SDK does so for the modern one alone."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        options = super().create_initialization_options(
            notification_options or changes, experimental_capabilities, extensions
        )
        options.capabilities.extensions = None  # tasks are of the modern era alone
        return options


def build_server(face: Face, changes: Changes, *, tasks: bool = False) -> EdgeServer:
    """The server: handlers for every method that clients may call.

    Args:
        tasks: Whether calls may become tasks. Their methods are answered before the SDK (asgi/tasks.py).
    """
    # At level info the SDK writes session ids, several lines for each session.
    logging.getLogger("mcp").setLevel(logging.WARNING)
    server = EdgeServer(
        "opsbus",
        version=version("opsbus-edge"),
        title="opsbus",
        instructions=INSTRUCTIONS,
        cache_hints=_cache_hints(face),
        get_tool_input_schema=_param_header_schema(face.edge),
    )
    if tasks:
        server.extensions[EXTENSION] = {}
    for method, params_type, handler in (*_lists(face), *_operations(face), *_subscriptions(face, changes)):
        server.add_request_handler(method, params_type, handler)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, _set_level)
    server.add_notification_handler("notifications/initialized", types.NotificationParams, _initialized(face))
    # Not the SDK's tracing: the pipeline makes the span, with the parent that the client names.
    server.middleware[:] = [counted(face), guard]
    return server


def _cache_hints(face: Face) -> dict[Any, CacheHint]:
    """Private: what a list holds is a matter of the caller's roles."""
    lists = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
    return {
        **dict.fromkeys(lists, CacheHint(ttl_ms=face.settings.list_ttl_ms)),
        "resources/read": CacheHint(ttl_ms=0),
        "server/discover": CacheHint(ttl_ms=DISCOVER_TTL_MS),
    }


def _param_header_schema(edge: Edge) -> Callable[[str], Mapping[str, Any] | None]:
    """Without this the SDK lists all tools for each call that has arguments."""

    def look_up(name: str) -> Mapping[str, Any] | None:
        tool = edge.catalog.tool(name)
        return tool.spec.input_schema if tool is not None and tool.param_headers else None

    return look_up


def _lists(face: Face) -> list[tuple[str, type[Any], Handler]]:
    catalog = face.edge.catalog

    def lister(field: str, page: Any) -> Handler:
        async def handle(ctx: Ctx, params: types.PaginatedRequestParams) -> dict[str, Any]:
            return list_page(face, ctx, field, page, params.cursor)

        return handle

    return [
        ("tools/list", types.PaginatedRequestParams, lister("tools", catalog.tools_page)),
        ("prompts/list", types.PaginatedRequestParams, lister("prompts", catalog.prompts_page)),
        ("resources/list", types.PaginatedRequestParams, lister("resources", catalog.resources_page)),
        (
            "resources/templates/list",
            types.PaginatedRequestParams,
            lister("resourceTemplates", catalog.templates_page),
        ),
    ]


def _operations(face: Face) -> list[tuple[str, type[Any], Handler]]:
    async def call_tool(ctx: Ctx, params: types.CallToolRequestParams) -> dict[str, Any]:
        return await operate(face, ctx, "tools/call", params.name, params.arguments or {})

    async def get_prompt(ctx: Ctx, params: types.GetPromptRequestParams) -> dict[str, Any]:
        return await operate(face, ctx, "prompts/get", params.name, params.arguments or {})

    async def read_resource(ctx: Ctx, params: types.ReadResourceRequestParams) -> dict[str, Any]:
        return await operate(face, ctx, "resources/read", str(params.uri), {})

    async def complete(ctx: Ctx, params: types.CompleteRequestParams) -> dict[str, Any]:
        ref = params.ref
        target = ref.name if isinstance(ref, types.PromptReference) else str(ref.uri)
        given = {
            "ref": ref.model_dump(by_alias=True, mode="json", include={"type", "name", "uri"}),
            "argument": {"name": params.argument.name, "value": params.argument.value},
            "context": (params.context.arguments if params.context is not None else None) or {},
        }
        return await operate(face, ctx, "completion/complete", target, given)

    return [
        ("tools/call", types.CallToolRequestParams, call_tool),
        ("prompts/get", types.GetPromptRequestParams, get_prompt),
        ("resources/read", types.ReadResourceRequestParams, read_resource),
        ("completion/complete", types.CompleteRequestParams, complete),
    ]


def _subscriptions(face: Face, changes: Changes) -> list[tuple[str, type[Any], Handler]]:
    async def on_listen(ctx: Ctx, params: types.SubscriptionsListenRequestParams) -> Any:
        return await changes.streams.listen(ctx, params)

    async def on_subscribe(ctx: Ctx, params: types.SubscribeRequestParams) -> Any:
        return subscribe(face, changes, ctx, params)

    async def on_unsubscribe(ctx: Ctx, params: types.UnsubscribeRequestParams) -> Any:
        return unsubscribe(changes, ctx, params)

    return [
        ("subscriptions/listen", types.SubscriptionsListenRequestParams, on_listen),
        ("resources/subscribe", types.SubscribeRequestParams, on_subscribe),
        ("resources/unsubscribe", types.UnsubscribeRequestParams, on_unsubscribe),
    ]


async def _set_level(ctx: Ctx, params: types.SetLevelRequestParams) -> types.EmptyResult:
    if ctx.session.client_params is None:
        refuse(ErrorCode.INVALID_REQUEST, "No session yet.", hint="Send initialize first.", era=LEGACY)
    session_of(ctx).log_level = params.level
    return types.EmptyResult()


def _initialized(face: Face) -> Callable[[Ctx, types.NotificationParams], Awaitable[None]]:
    async def handle(ctx: Ctx, params: types.NotificationParams) -> None:
        # A modern stdio connection sends none of this, and its connection is one request long.
        if ctx.session.client_params is not None:
            face.sessions.add(ctx, caller_of(face.edge, ctx).sub)

    return handle
