"""The official SDK's low-level server, stateless, whose tool calls a worker over the bus: the gateway one would write
with it in an afternoon. No sign-in, no policy, no record."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server

from bench.rivals.serve import ECHO, bus, serve

_TOOL = types.Tool(name="demo_echo", input_schema={"type": "object", "properties": {"text": {"type": "string"}}})


@asynccontextmanager
async def _connected(_: Server[Any]) -> AsyncIterator[Any]:
    client = await bus()
    try:
        yield client
    finally:
        await client.close()


async def _list(_: Any, __: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[_TOOL])


async def _call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    body = json.dumps({"arguments": params.arguments}).encode()
    answer = await ctx.lifespan_context.request(ECHO, body, timeout=30)
    return types.CallToolResult.model_validate_json(answer.data)


if __name__ == "__main__":
    server = Server("bench", lifespan=_connected, on_list_tools=_list, on_call_tool=_call)
    serve(server.streamable_http_app(json_response=True, stateless_http=True))
