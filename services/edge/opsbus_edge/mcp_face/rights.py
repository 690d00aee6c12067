"""Who may hear of what. Asked when one subscribes, and anew at each telling: a right that was lost counts at once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp.server.context import ServerRequestContext

from opsbus.permission import decide, fits
from opsbus_contracts.access import QuarantineKind
from opsbus_contracts.catalog import ResourceSpec
from opsbus_contracts.errors import ErrorCode
from opsbus_edge.asgi.connection import CERTIFICATE
from opsbus_edge.asgi.http import client_address, headers_of
from opsbus_edge.context import Edge
from opsbus_edge.model import Caller, Denied, Peer

_UNAUTHENTICATED = 401


class Proof(NamedTuple):
    """What a request proved its caller by."""

    headers: Mapping[str, str]
    peer: Peer


def proof_of(scope: Mapping[str, Any]) -> Proof:
    """The proof in a request's ASGI scope."""
    headers, _ = headers_of(dict(scope))
    return Proof(headers, Peer(client_address(dict(scope)), scope.get(CERTIFICATE)))


def proof_in(ctx: ServerRequestContext[Any, Any]) -> Proof | None:
    """The proof of the request at hand; None: stdio, whose caller is a setting."""
    return None if ctx.request is None else proof_of(ctx.request.scope)


async def present(edge: Edge, proof: Proof | None) -> Caller | None:
    """The caller as of now; None: the proof holds no more, the caller is shut out, or nobody can tell."""
    caller = await _proved(edge, proof)
    return caller if isinstance(caller, Caller) and edge.shut_out.caller(caller) is None else None


async def has_lost(edge: Edge, proof: Proof | None) -> bool:
    """Whether the proof is known to hold no more, or the caller to be shut out."""
    caller = await _proved(edge, proof)
    if isinstance(caller, Denied):
        return caller.http_status == _UNAUTHENTICATED
    refused = edge.shut_out.caller(caller)
    return refused is not None and refused.code is ErrorCode.QUARANTINED


async def _proved(edge: Edge, proof: Proof | None) -> Caller | Denied:
    if proof is None:
        return edge.stdio_caller()
    # Not edge.authenticate: nobody knocks at the door, and no refusal is to be recorded.
    return await edge.authenticator.authenticate(proof.headers, proof.peer)


def may_watch(edge: Edge, caller: Caller, uri: str) -> bool:
    """Whether the caller may hear of a resource: it can be watched, and reading it would be permitted.

    Of a template every concrete URI can be watched.
    """
    entry = edge.catalog.resource(uri)
    if entry is None or (isinstance(entry.spec, ResourceSpec) and not entry.spec.subscribable):
        return False
    needed = entry.spec.permission
    if caller.scopes is not None and not fits(caller.scopes, needed):
        return False
    if edge.shut_out.quarantines.find((QuarantineKind.SERVICE, entry.service)) is not None:
        return False
    return decide(caller.permissions, caller.grants, needed, {}).permitted
