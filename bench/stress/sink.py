"""A server that answers everything with the same bytes: shows what the load generator can do by itself."""

import asyncio
import json
import os
from pathlib import Path
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """One connection; a request is one piece here."""

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


async def main() -> None:
    """Serve until killed; ``OPSBUS_EDGE_READY_FILE`` tells where."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=2048)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ready = Path(os.environ["OPSBUS_EDGE_READY_FILE"])
    part = ready.with_suffix(".part")
    part.write_text(json.dumps({"http_url": url}), encoding="utf-8")
    part.rename(ready)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
