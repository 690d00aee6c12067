"""The server's half of the MCP SDK, without its client and its framework for servers: six megabytes. Import it before
mcp.

Who imports the rest, as the edge's commands do, gets it nevertheless.
"""

from importlib import import_module

from opsbus.bare import bare

_USED = (
    "mcp.server.auth.middleware.bearer_auth",
    "mcp.server.connection",
    "mcp.server.lowlevel.server",
    "mcp.server.request_state",
    "mcp.server.stdio",
    "mcp.server.streamable_http_manager",
    "mcp.shared.inbound",
    "mcp.shared.subscriptions",
    "mcp.shared.uri_template",
)

with bare("mcp", "mcp.server"):
    for _name in _USED:
        import_module(_name)
