"""Sessions of the older eras that this edge owns: ids, and what a session remembers. Its streams are the SDK's."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.subscriptions import ServerEvent

from opsbus_contracts.names import INSTANCE_PATTERN
from opsbus_edge.mcp_face.rights import Proof, proof_in

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
    id: str = ""
    """The SDK's id; empty: stdio."""
    sub: str = ""
    """Whose session it is."""
    proof: Proof | None = None
    """What the newest of its requests proved its caller by; None: stdio."""
    waiting: dict[ServerEvent, None] = field(default_factory=dict)
    """What is still to be told."""
    telling: bool = False


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
    """The sessions of this edge that may be sent notifications. They leave when their connection ends."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._by_id: dict[str, Session] = {}
        self._streams: dict[str, int] = {}
        self.ended: list[Callable[[Session], None]] = []
        """Told of sessions that have left."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def find(self, sdk_id: str) -> Session | None:
        """The session with the SDK's id."""
        return self._by_id.get(sdk_id)

    def stream_opened(self, sdk_id: str) -> None:
        """A GET stream of the session is open."""
        self._streams[sdk_id] = self._streams.get(sdk_id, 0) + 1

    def stream_closed(self, sdk_id: str) -> None:
        """It is no more."""
        self._streams[sdk_id] -= 1
        if not self._streams[sdk_id]:
            del self._streams[sdk_id]

    def hears(self, session: Session) -> bool:
        """Whether there is a stream for what is no answer. What is sent without one is lost."""
        return not session.id or session.id in self._streams

    def add(self, ctx: ServerRequestContext[Any, Any], sub: str) -> None:
        """The session of ``notifications/initialized`` may be sent notifications from now on."""
        session = self.keep(ctx, sub)
        if session.channel is None:
            session.channel = ctx.session

    def keep(self, ctx: ServerRequestContext[Any, Any], sub: str) -> Session:
        """The session of a request, known until it ends.

        Args:
            sub: Of the caller: whose session it is.
        """
        session = session_of(ctx)
        if id(session) not in self._sessions:
            sdk_id = ctx.request.headers.get("mcp-session-id", "") if ctx.request is not None else ""
            session.id, session.sub, session.proof = sdk_id, sub, proof_in(ctx)
            self._sessions[id(session)] = session
            if sdk_id:
                self._by_id[sdk_id] = session
            _connection(ctx).exit_stack.callback(self._leave, session)
        return session

    def _leave(self, session: Session) -> None:
        self._sessions.pop(id(session), None)
        self._by_id.pop(session.id, None)
        for told in self.ended:
            told(session)


def _connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The SDK has no public way from a handler to its connection, whose state and end are what a session hangs on."""
    return ctx.session._connection
