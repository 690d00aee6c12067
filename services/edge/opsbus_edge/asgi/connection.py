"""uvicorn's HTTP connection, which also tells requests the client certificate that TLS verified."""

import asyncio
import ssl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from opsbus_edge.asgi.tls import Tls

CERTIFICATE = "opsbus.certificate"
"""Key of the scope: the DER of the certificate. Set by this edge alone; no header can."""


def connection_class(tls: Tls | None) -> type[HttpToolsProtocol]:
    """The protocol for a listener; without TLS, uvicorn's own."""
    if tls is None:
        return HttpToolsProtocol
    listener = tls

    class Connection(HttpToolsProtocol):
        """One connection."""

        _certificate: bytes | None = None
        _looked_at = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
            if _is_outdated(connection, listener.read_at):
                # Without a word: then OpenSSL forgets the session, and the client's next try is a whole handshake.
                transport.abort()
            else:
                self._certificate = connection.getpeercert(binary_form=True)
                self._looked_at = listener.read_at

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._looked_at != listener.read_at and self._certificate is not None:
                self._looked_at = listener.read_at
                if listener.is_revoked(self._certificate):
                    self._certificate = None  # it proves nothing any more, on this connection either
            if self._certificate is not None:
                self.scope[CERTIFICATE] = self._certificate  # type: ignore[literal-required]

    return Connection


def _is_outdated(connection: ssl.SSLObject, read_at: float) -> bool:
    """Whether the session was resumed (TLS 1.2) from a time when other files said who is to be believed."""
    return connection.session_reused and (connection.session is None or connection.session.time <= read_at)
