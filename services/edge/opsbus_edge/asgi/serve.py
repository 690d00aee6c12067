"""Serves an edge over HTTP with uvicorn, on a socket bound here, so that a taken port is an error and 0 a free one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

import uvicorn

from opsbus_edge.asgi.admission import Admission
from opsbus_edge.asgi.admitted import admitted
from opsbus_edge.asgi.application import Application
from opsbus_edge.asgi.bounds import Bounds, bounded
from opsbus_edge.asgi.connection import connection_class
from opsbus_edge.asgi.health import Health
from opsbus_edge.asgi.http import App
from opsbus_edge.asgi.tls import Tls
from opsbus_edge.context import Edge

KEEP_ALIVE_S = 75
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn that leaves the process's signals alone."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


@asynccontextmanager
async def serving(edge: Edge, mcp: App | None = None) -> AsyncIterator[str]:
    """Answer HTTP until the block ends; then no more connections are taken and those under way are waited for.

    Args:
        edge: The edge's parts.
        mcp: The SDK's side of /mcp; default: ``mcp_face.app.build(edge)``.

    Yields:
        ``http://127.0.0.1:8080``

    Raises:
        OSError: the port is taken.
        SettingsError: a TLS file cannot be used.
    """
    health = Health(edge)
    settings = edge.settings
    tls = Tls(settings) if settings.tls else None
    listener = _bind(settings.http_host, settings.http_port)
    try:
        await health.start()
        admission = Admission(settings.requests_waiting_max, settings.request_wait_max_s, edge.metrics)
        config = uvicorn.Config(
            Application(edge, health, mcp or _mcp_face(edge), admission),
            http=admitted(bounded(connection_class(tls), Bounds.of(settings)), admission),
            ssl_context_factory=(lambda *_: tls.context) if tls is not None else None,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
            backlog=BACKLOG,
        )
        if tls is not None:
            tls.start()
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        try:
            while not server.started:
                if task.done():
                    await task
                    raise RuntimeError("the HTTP server ended while it started")
                await asyncio.sleep(0.005)
            yield _url(listener, "https" if tls is not None else "http")
        finally:
            edge.drain.set()
            server.should_exit = True
            await task
    finally:
        if tls is not None:
            await tls.stop()
        await health.stop()
        listener.close()


def _mcp_face(edge: Edge) -> App:
    from opsbus_edge.mcp_face.app import build  # the SDK costs start-up time that tests of other parts need not pay

    return build(edge)


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
