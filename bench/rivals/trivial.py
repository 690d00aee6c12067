"""A responder that reads nothing and says the same each time: what ``wrk`` can reach, so that one sees that it is not
the bottleneck of the other rows."""

import asyncio

import uvloop

from bench.rivals.serve import told

_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'


class Responder(asyncio.Protocol):
    """What arrives at once is a request: the load sends no more than one at a time on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(_ANSWER)  # type: ignore[attr-defined]


async def main() -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0, backlog=2048)
    told(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
