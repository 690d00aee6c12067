"""Both eras over stdin and stdout, for a client that starts its servers itself. One connection, one caller."""

from mcp.server.stdio import stdio_server

from opsbus_edge.context import Edge
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.server import build_server
from opsbus_edge.mcp_face.subscriptions import Changes


async def serve_stdio(edge: Edge) -> None:
    """Serves until the client closes stdin."""
    face = Face(edge)
    changes = Changes(face)
    server = build_server(face, changes)
    await changes.start()
    edge.metrics.active_connections.inc()
    try:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    finally:
        edge.metrics.active_connections.dec()
        await changes.stop()
        await face.tasks.stop()
