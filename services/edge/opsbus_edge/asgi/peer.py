"""Who is at the other end of an HTTP connection. Who the caller is: gates/authenticate.py."""

from opsbus_edge.asgi.http import Scope
from opsbus_edge.model import NO_PEER, Peer


def peer_of(scope: Scope) -> Peer:
    """The other end of a request's connection."""
    client = scope.get("client")
    return Peer(client[0]) if client else NO_PEER
