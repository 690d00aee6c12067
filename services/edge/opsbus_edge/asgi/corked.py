"""A transport on which the head of an answer waits for what follows it: one write for both, where uvicorn makes two.

A write is a system call, for the client a second segment to read, and with TLS a second record.
"""

import asyncio
from typing import Any

_HEAD = b"HTTP/1."
_JOINED_BYTES_MAX = 64 * 1024
"""A body that is larger is not copied to be joined."""


class Corked:
    """Around a connection's transport. A head that nothing follows at once, as that of a stream, goes out by itself."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send, a head with what comes next."""
        held = self._held
        if held:
            self._held = b""
            if len(data) <= _JOINED_BYTES_MAX:
                self._transport.write(held + data)
                return
            self._transport.write(held)
        elif data.startswith(_HEAD):
            self._held = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Nothing follows at once."""
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def write_eof(self) -> None:
        """Say that nothing more comes."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        """As the transport says."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """As the transport says. Bytes."""
        return self._transport.get_write_buffer_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
