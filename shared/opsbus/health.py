"""``/live``, ``/ready`` and ``/metrics`` over HTTP, beside whatever the process does.

The edge has its own, richer ones.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import orjson

from opsbus.settings import SettingsError
from opsbus.uvicorn_light import Config, Server

Check = Callable[[], tuple[bool, dict[str, Any]]]
"""Whether it is ready, and the facts behind it."""

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class _Server(Server):
    """uvicorn that leaves the process's signals alone, and waits for its end without a clock."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.end = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def main_loop(self) -> None:
        await self.end.wait()


class Health:
    """The HTTP endpoints of one process."""

    def __init__(self, host: str, port: int, ready: Check, metrics: Callable[[], bytes]) -> None:
        """``port`` 0: a free one."""
        self._ready = ready
        self._metrics = metrics
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            SettingsError: the address is taken, or not this host's.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self._host, self._port))
        except OSError as error:
            self._socket.close()
            raise SettingsError(
                f"setting http_port: HTTP cannot listen at {self._host}:{self._port} ({error.strerror});"
                " set OPSBUS_HTTP_HOST and OPSBUS_HTTP_PORT to an address of this host that is free"
            ) from None
        config = Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:41234``"""
        if self._socket is None:
            return ""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def public_url(self) -> str:
        """As others reach it: by the host's name where it listens on every address."""
        if self._socket is not None and self._host in ("0.0.0.0", "::"):
            return f"http://{socket.gethostname()}:{self._socket.getsockname()[1]}"
        return self.url

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            self._server.end.set()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._socket is not None:
            self._socket.close()

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = self._answer(scope["path"], scope["method"])
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, path: str, method: str) -> tuple[int, bytes, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, b"application/json", b'{"error":"only GET"}'
        if path == "/live":
            return 200, b"application/json", b'{"live":true}'
        if path == "/ready":
            ready, facts = self._ready()
            return (200 if ready else 503), b"application/json", orjson.dumps({"ready": ready, **facts})
        if path == "/metrics":
            return 200, _METRICS_TYPE, self._metrics()
        return 404, b"application/json", b'{"error":"there are /live, /ready and /metrics"}'
