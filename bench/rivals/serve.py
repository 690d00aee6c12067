"""Serves an ASGI application as the edge is served: uvicorn, httptools, uvloop, one process; tells where in a file."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import uvicorn

from opsbus import nats_client
from opsbus.settings import Settings

BUS_IDENTITY = "edge"
ECHO = f"tool.{os.environ.get('OPSBUS_BENCH_SERVICE', 'demo')}.echo"
"""Subject of the responder on bare nats-py, which those call that go over the bus."""


def serve(app: Any, *, lifespan: str = "on") -> None:
    """Serve until a signal comes; ``OPSBUS_EDGE_READY_FILE`` names the file."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", ws="none", lifespan=lifespan,  # type: ignore[arg-type]
        log_level="error", access_log=False,
    )  # fmt: skip
    listener.listen(2048)
    told(url)
    uvicorn.Server(config).run(sockets=[listener])


def told(url: str) -> None:
    """Say where, in the file that ``OPSBUS_EDGE_READY_FILE`` names."""
    ready = Path(os.environ["OPSBUS_EDGE_READY_FILE"])
    part = ready.with_suffix(".part")
    part.write_text(json.dumps({"http_url": url}), encoding="utf-8")
    part.rename(ready)


async def bus() -> Any:
    """A connection to the bus with the edge's rights."""
    seed = Path(os.environ["OPSBUS_NATS_SEED_FILE"])
    return await nats_client.connect(
        Settings(nats_url=os.environ["OPSBUS_NATS_URL"], nats_seed_file=seed), BUS_IDENTITY
    )
