"""JSON-RPC answers made of a worker's bytes: spliced, parsed only where the bytes do not already say what MCP wants."""

from typing import Any

import orjson
from mcp_types import SERVER_INFO_META_KEY

from opsbus_edge import __version__
from opsbus_edge.catalog import Listing

SERVER_INFO = {"name": "opsbus", "title": "opsbus", "version": __version__}
_META = orjson.dumps({SERVER_INFO_META_KEY: SERVER_INFO})
_META_TAIL = b',"_meta":' + _META + b"}"
_COMPLETE = b'{"resultType":"complete"'


def response(request_id: str | int, result: bytes) -> bytes:
    """A JSON-RPC response."""
    return b'{"jsonrpc":"2.0","id":' + orjson.dumps(request_id) + b',"result":' + result + b"}"


def error(request_id: str | int | None, code: int, message: str, data: dict[str, Any] | None) -> bytes:
    """A JSON-RPC error."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data:
        body["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": body})


def notification(method: str, params: dict[str, Any]) -> bytes:
    """A JSON-RPC notification."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def tool_result(body: bytes) -> bytes:
    """A worker's complete result, with result type and server info, on one line.

    Args:
        body: A JSON object. One that begins with ``resultType`` and has no ``_meta`` is never parsed.

    Raises:
        orjson.JSONDecodeError: it had to be parsed and is no JSON.
    """
    if body.startswith(_COMPLETE) and b'"_meta"' not in body and b"\n" not in body and b"\r" not in body:
        return body[:-1] + _META_TAIL
    result = orjson.loads(body)
    result.setdefault("resultType", "complete")
    meta = result.get("_meta")
    result["_meta"] = {SERVER_INFO_META_KEY: SERVER_INFO, **(meta if isinstance(meta, dict) else {})}
    return orjson.dumps(result)


def list_result(listing: Listing, ttl_ms: int) -> bytes:
    """A tools/list result; private, for it shows what this caller may call."""
    parts = [_COMPLETE, b',"tools":', listing.items_json]
    if listing.next_cursor is not None:
        parts += [b',"nextCursor":', orjson.dumps(listing.next_cursor)]
    parts += [b',"ttlMs":', str(ttl_ms).encode(), b',"cacheScope":"private"', _META_TAIL]
    return b"".join(parts)
