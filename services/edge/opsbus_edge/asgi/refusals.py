"""Requests of a known caller that are refused before they become a call: they are in the record too, as denied."""

import orjson

from opsbus_contracts.calls import ClientInfo
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.asgi.hints import BODY_BYTES_MAX
from opsbus_edge.asgi.http import Message, Scope, Send, client_address
from opsbus_edge.context import Edge
from opsbus_edge.gates.record import RECORDED
from opsbus_edge.model import Caller, Request, error_body

METHOD = "http"
"""Of the record: what was asked for did not get as far as a method."""


def recorded(edge: Edge, scope: Scope, headers: dict[str, str], caller: Caller, send: Send) -> Send:
    """A send that records an answer of 400 and more, unless the pipeline has recorded the request."""
    seen: list[bool] = []
    RECORDED.set(seen)
    status = 0
    parts: list[bytes] = []

    async def noted(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)
        if status < 400 or seen:
            return
        if sum(map(len, parts)) < BODY_BYTES_MAX:
            parts.append(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            request = Request(
                method=METHOD,
                target=f"{scope['method']} {scope['path']}"[:256],
                params=b"",
                caller=caller,
                client=ClientInfo(name=headers.get("user-agent", "")[:200]),
                protocol=headers.get("mcp-protocol-version", "rest")[:32],
                transport="http",
                address=client_address(scope),
            )
            await edge.pipeline.refused(request, _error(b"".join(parts), status))

    return noted


def _error(body: bytes, status: int) -> ErrorBody:
    """What the answer says, in any of the forms it may have."""
    try:
        error = orjson.loads(body)["error"]
        data = error.get("data") or {}
        code = error["code"] if isinstance(error["code"], str) else data.get("code", ErrorCode.INVALID_REQUEST.value)
        return error_body(ErrorCode(code), str(error["message"])[:500])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        return error_body(ErrorCode.INVALID_REQUEST, f"answered with HTTP status {status}")
