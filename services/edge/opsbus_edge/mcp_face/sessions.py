"""Sessions of the older eras that this edge owns: ids, and what a session remembers. Its streams are the SDK's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession

from opsbus_contracts.names import INSTANCE_PATTERN

SUBSCRIPTIONS_MAX = 1_000
"""Resources one session may subscribe to."""

DEFAULT_LOG_LEVEL = "info"
"""Until a session says otherwise (``logging/setLevel``)."""

_INSTANCE = re.compile(INSTANCE_PATTERN)
_STATE_KEY = "opsbus"


@dataclass(slots=True, eq=False)
class Session:
    """What the edge remembers of a session."""

    log_level: str = DEFAULT_LOG_LEVEL
    subscriptions: set[str] = field(default_factory=set)
    """URIs of ``resources/subscribe``."""
    channel: ServerSession | None = None
    """Notifications without a request go here; None until the client is initialized."""


def public_id(instance: str, sdk_id: str) -> str:
    """The ``Mcp-Session-Id`` clients see: it names the edge that owns the session."""
    return f"{instance}.{sdk_id}"


def digest_of(session_id: str) -> str:
    """What the record has of a session: the SHA-256 hex of the id that clients see. The id itself opens the session."""
    return sha256(session_id.encode()).hexdigest()


def owner_of(session_id: str) -> tuple[str, str] | None:
    """``(instance, the SDK's id)``; None for an id that no edge gave out."""
    instance, dot, sdk_id = session_id.partition(".")
    if not dot or not sdk_id or not _INSTANCE.fullmatch(instance):
        return None
    return instance, sdk_id


def session_of(ctx: ServerRequestContext[Any, Any]) -> Session:
    """The session a request of the older eras belongs to."""
    state = _connection(ctx).state
    session: Session = state.setdefault(_STATE_KEY, Session())
    return session


class Sessions:
    """The initialized sessions of this edge. They leave when their connection ends."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def add(self, ctx: ServerRequestContext[Any, Any]) -> None:
        """The session of ``notifications/initialized`` may be sent notifications from now on."""
        session = session_of(ctx)
        if session.channel is None:
            session.channel = ctx.session
            self._sessions[id(session)] = session
            _connection(ctx).exit_stack.callback(self._sessions.pop, id(session), None)


def _connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The SDK has no public way from a handler to its connection, whose state and end are what a session hangs on."""
    return ctx.session._connection
