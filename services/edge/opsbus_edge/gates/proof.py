"""What a way of proving an identity gives: who it is, or a refusal. Each way is a file of its own."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from opsbus_contracts.errors import ErrorCode
from opsbus_edge.model import Denied, Peer, error_body


@dataclass(frozen=True, slots=True)
class Proven:
    """A proved identity, before the policy says what it may do."""

    sub: str
    roles: tuple[str, ...]
    auth: str
    """How: ``jwt``, ``oauth``, ``api_key``, ``mtls``, ``ldap``, ``anonymous``, ``stdio``."""
    key: str = ""
    """Id of the API key, where one proved it."""
    scopes: tuple[str, ...] | None = None
    """Of the token, where they narrow what the roles permit."""


Proof = Callable[[Mapping[str, str], Peer], Awaitable[Proven | Denied | None]]
"""Looks at headers (lower-case names) and the other end. None: this way was not tried by the client."""


def refuse(message: str, error: str = "invalid_token", hint: str = "") -> Denied:
    """401 with a challenge. ``message`` must not quote what the client sent."""
    body = error_body(ErrorCode.UNAUTHENTICATED, message, hint=hint or "Send Authorization: Bearer <token>.")
    challenge = f'Bearer realm="opsbus", error="{error}", error_description="{message}"'
    return Denied(body, (("www-authenticate", challenge),))


def no_proof() -> Denied:
    """401 for a request that does not say who it is."""
    body = error_body(
        ErrorCode.UNAUTHENTICATED, "the request does not say who it is", hint="Send Authorization: Bearer <token>."
    )
    return Denied(body, (("www-authenticate", 'Bearer realm="opsbus"'),))
