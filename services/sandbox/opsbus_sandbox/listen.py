"""Serving one web application on one port."""

from __future__ import annotations

import ssl

from aiohttp import web

_STOP_TIMEOUT_S = 1.0


async def listen(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """Serve an application; the runner and the actual address are returned. Raises OSError when the port is taken."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=_STOP_TIMEOUT_S, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
    except OSError:
        await runner.cleanup()
        raise
    actual = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return runner, f"{'https' if tls else 'http'}://{shown}:{actual}"
