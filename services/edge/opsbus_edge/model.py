"""The edge's own nouns: who calls, what is asked of a worker, what came back. What travels on the bus: contracts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from opsbus.permission import may
from opsbus_contracts.calls import ClientInfo, Status
from opsbus_contracts.errors import CODES, ErrorBody, ErrorCode, Executed
from opsbus_contracts.identity import Grant
from opsbus_edge.unforeseen import hex_digits

OnMessage = Callable[[Status, bytes], Awaitable[None]]
"""Told of every ``progress`` and ``log`` of a call, with its body as the worker sent it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, as this edge (not the client) knows it."""

    address: str = ""
    """IP address of the client; behind proxies that are trusted, the one they name."""
    certificate: bytes | None = None
    """DER of the client certificate that TLS verified; None: there was none."""


NO_PEER = Peer()
"""stdio, and what has no connection."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. ``permissions`` are globs; one that starts with ``!`` denies and wins."""

    sub: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    auth: str
    role_key: str
    """Equal for callers who may see and do the same: the cache key of lists and decisions."""
    grants: tuple[Grant, ...] = ()
    """Permissions under conditions on arguments."""
    key: str = ""
    """Id of the API key that proved it, where one did."""
    scopes: tuple[str, ...] | None = None
    """Permission globs of the token's scopes: nothing else is permitted, whatever the roles say. None: no bound."""
    requires: Callable[[str], tuple[str, ...]] = field(default=lambda _: (), compare=False)
    """Permissions that the policy demands for a tool (MCP name) beside the tool's own."""

    def sees(self, permission: str, tool: str = "") -> bool:
        """Whether the caller may do something with what needs this permission, whatever the arguments.

        Args:
            tool: MCP name, where it is a tool.
        """
        needed = (permission, *self.requires(tool)) if tool else (permission,)
        return all(may(self.permissions, self.grants, one) for one in needed)


@dataclass(frozen=True, slots=True)
class Denied:
    """Authentication failed: 401 (or 503 when it could not be decided) with ``error`` and ``headers``."""

    error: ErrorBody
    headers: tuple[tuple[str, str], ...] = ()
    http_status: int = 401


@dataclass(slots=True)
class Request:
    """One operation for a worker."""

    method: str
    """``tools/call``, ``resources/read``, ``prompts/get`` or ``completion/complete``."""
    target: str
    """MCP name of the tool or prompt, URI of the resource; for a completion the name or URI template of its ref."""
    params: bytes
    """JSON: tools/call and prompts/get: the arguments object; completion: ``{"ref", "argument", "context"}``;
    resources/read: ``{}``."""
    caller: Caller
    client: ClientInfo
    protocol: str
    """``2026-07-28``, ``2025-11-25``, ``2025-06-18`` or ``rest``."""
    transport: str
    """``http`` or ``stdio``."""
    call: str = field(default_factory=lambda: new_call())
    input_responses: bytes | None = None
    """JSON object: answers by key (MRTR)."""
    request_state: str | None = None
    """As the worker gave it, unsealed."""
    idempotency_key: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    log_level: str | None = None
    wants_progress: bool = False
    timeout_s: float | None = None
    address: str = ""
    """IP address of the client."""
    session: str = ""
    """Digest of the MCP session id; empty: none."""


@dataclass(slots=True)
class Reply:
    """The final word on a request, from a worker or from the edge itself (denied, no worker, outcome unknown)."""

    status: Status
    """``ok``, ``input_required`` or ``error``."""
    body: bytes
    """MCP result, byte for byte, for ok and input_required; an ErrorBody in JSON for error."""
    error_code: str | None = None
    executed: Executed = Executed.NO
    instance: str = ""
    attempts: int = 0
    replayed: bool = False
    approver: str = ""
    """Who else approved the call, as the worker tells."""


HINTS = {
    ErrorCode.INVALID_REQUEST: "Compare the request with its description at /docs or in the MCP specification.",
    ErrorCode.INVALID_ARGUMENTS: "Compare the arguments with the tool's inputSchema.",
    ErrorCode.UNAUTHENTICATED: "Send Authorization: Bearer <token>.",
    ErrorCode.FORBIDDEN: "Ask whoever hands out roles.",
    ErrorCode.UNKNOWN_METHOD: "Call a method of the MCP specification.",
    ErrorCode.REQUEST_TOO_LARGE: "Send less, or a reference to it.",
    ErrorCode.INTERNAL: "Try again; if it persists, tell the operators the time and the path.",
}
"""What to do, where nothing better is known."""


def new_call() -> str:
    """A call id: 32 hex digits."""
    return hex_digits(32)


def error_body(
    code: ErrorCode,
    message: str,
    *,
    hint: str = "",
    executed: Executed = Executed.NO,
    did_you_mean: list[str] | None = None,
    retry_after_ms: int | None = None,
    details: dict[str, object] | None = None,
) -> ErrorBody:
    """An ErrorBody whose ``retryable`` is the code's."""
    return ErrorBody(
        code=code,
        message=message,
        retryable=CODES[code].retryable,
        hint=hint or HINTS.get(code, ""),
        executed=executed,
        did_you_mean=did_you_mean or [],
        retry_after_ms=retry_after_ms,
        details=details or {},
    )


def error_reply(error: ErrorBody, *, instance: str = "", attempts: int = 0) -> Reply:
    """A Reply that carries ``error``."""
    return Reply(
        Status.ERROR,
        error.model_dump_json(exclude_defaults=False).encode(),
        error_code=error.code.value,
        executed=error.executed,
        instance=instance,
        attempts=attempts,
    )
