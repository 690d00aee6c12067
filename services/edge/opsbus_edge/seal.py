"""Seals what clients carry between rounds (MRTR): encrypted, bound to caller, request, expiry; equal on every edge."""

import hashlib
import time
from collections.abc import Sequence
from typing import TypedDict

import orjson
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

from opsbus_edge.model import Request

SEALED_CHARS_MAX = 256 * 1024
"""A longer token is not even tried."""
_CLAIMS_VERSION = 1


class BadStateError(Exception):
    """A request state that this platform did not give for this request. The reason is for the log alone."""


class Binding(TypedDict):
    """What a sealed state is good for."""

    sub: str
    method: str
    target: str
    arguments: bytes


def binding_of(request: Request) -> Binding:
    """``sealer.seal(state, **binding_of(request))``"""
    return {
        "sub": request.caller.sub,
        "method": request.method,
        "target": request.target,
        "arguments": request.params,
    }


class Sealer:
    """AES-256-GCM by the SDK's codec, with the edge's own claims around the worker's state.

    Args:
        keys: Secrets of 32 bytes or more; the first seals, all open. Rotation: add the new one last on every edge,
            then move it to the front, then drop the old one after ``ttl_s``.
        ttl_s: How long a sealed state is good. Seconds.
    """

    def __init__(self, keys: Sequence[bytes], ttl_s: float = 600.0) -> None:
        self._codec = AESGCMRequestStateCodec(keys)
        self._ttl_s = ttl_s

    def seal(self, state: str, *, sub: str, method: str, target: str, arguments: bytes) -> str:
        """The token a client carries.

        Args:
            state: The worker's request state.
            sub: The caller's ``sub``.
            method: MCP method.
            target: MCP name or URI.
            arguments: The request's arguments as JSON bytes; their order does not matter.
        """
        claims = {
            "v": _CLAIMS_VERSION,
            "exp": time.time() + self._ttl_s,
            "b": _binding(sub, method, target, arguments),
            "s": state,
        }
        return self._codec.seal(orjson.dumps(claims))

    def open(self, token: str, *, sub: str, method: str, target: str, arguments: bytes) -> str:
        """The worker's state again.

        Raises:
            BadStateError: altered, expired, or given to another caller or for another request.
        """
        if len(token) > SEALED_CHARS_MAX:
            raise BadStateError("too long")
        try:
            claims = orjson.loads(self._codec.unseal(token))
        except (InvalidRequestState, orjson.JSONDecodeError, UnicodeError) as error:
            raise BadStateError(str(error) or "malformed") from None
        if claims.get("v") != _CLAIMS_VERSION:
            raise BadStateError("version")
        if not time.time() < claims["exp"]:
            raise BadStateError("expired")
        if claims["b"] != _binding(sub, method, target, arguments):
            raise BadStateError("another caller or another request")
        state = claims["s"]
        if not isinstance(state, str):
            raise BadStateError("malformed")
        return state


def _binding(sub: str, method: str, target: str, arguments: bytes) -> str:
    """One digest over all that the state is bound to. Arguments are put in order: clients may re-serialise them."""
    value = orjson.loads(arguments) if arguments else {}
    bound = orjson.dumps([sub, method, target, value or {}], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(bound).hexdigest()
