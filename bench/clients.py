"""Many connections that wait, each with one request under way: more than a client library carries cheaply."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from bench.load import LoadError

_AT_ONCE = 100
"""Connections opened at once."""


class Waiting:
    """A connection with a request that is being answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def until(self, part: bytes) -> bytes:
        """Reads up to and with these bytes.

        Raises:
            LoadError: the answer ended before.
        """
        try:
            return await self.reader.readuntil(part)
        except asyncio.IncompleteReadError as error:
            raise LoadError(f"an answer ended before {part!r} came: {error.partial[-200:]!r}") from None

    def close(self) -> None:
        """Goes away."""
        self._writer.close()


async def ask(url: str, headers: dict[str, str], body: bytes) -> Waiting:
    """Send a request.

    Raises:
        LoadError: it was refused.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024 * 1024)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    await writer.drain()
    return Waiting(reader, writer)


async def many(count: int, one: Callable[[], Awaitable[Waiting]]) -> list[Waiting]:
    """So many of them, a hundred at a time."""
    found: list[Waiting] = []
    while len(found) < count:
        found += await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, count - len(found)))))
    return found
