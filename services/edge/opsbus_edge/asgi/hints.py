"""Refusals that the MCP SDK words itself, with the line that says what to do. Its status, code and message stay."""

from typing import Any

import orjson

from opsbus_edge.asgi.http import Message, Send

BODY_BYTES_MAX = 16 * 1024
_HINTS = {
    -32700: "Send one JSON-RPC message as JSON in UTF-8.",
    -32600: "Send one JSON-RPC 2.0 request or notification, as the MCP specification has it.",
    -32601: "Call a method that server/discover or initialize names.",
    -32602: "Compare the parameters with the MCP specification.",
    -32020: "Make the headers Mcp-Method, Mcp-Name and MCP-Protocol-Version say what the body says.",
    -32021: "Declare the capability, if your client has it.",
}
_OF_STATUS = {
    400: "Compare the headers and the body with the MCP specification.",
    404: "Initialize a new session.",
    405: "Use POST for requests; GET and DELETE are for sessions.",
    406: "Send Accept: application/json, text/event-stream.",
    415: "Send Content-Type: application/json.",
    413: "Send less, or a reference to it.",
}


def hinted(send: Send) -> Send:
    """A send that puts a hint into JSON-RPC errors with an HTTP error status."""
    start: Message | None = None
    parts: list[bytes] = []

    async def pass_on(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and message["status"] >= 400 and _is_json(message):
            start = message
            return
        if start is None:
            await send(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body") and sum(map(len, parts)) < BODY_BYTES_MAX:
            return
        first, start = start, None
        body = b"".join(parts)
        if not message.get("more_body"):
            body = _with_hint(body, first["status"])
        headers = [(name, value) for name, value in first["headers"] if name != b"content-length"]
        if not message.get("more_body"):
            headers.append((b"content-length", str(len(body)).encode()))
        await send({**first, "headers": headers})
        await send({**message, "body": body})

    return pass_on


def _is_json(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in message.get("headers", ())
    )


def _with_hint(body: bytes, status: int) -> bytes:
    try:
        answer: Any = orjson.loads(body)
        error = answer["error"]
        data = error.get("data")
        if not isinstance(data, dict):
            data = {} if data is None else {"detail": data}
        if data.get("hint"):
            return body
        hint = _HINTS.get(error["code"]) if error["code"] != -32600 else None
        error["data"] = {**data, "hint": hint or _OF_STATUS.get(status) or _HINTS[-32600]}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return body
    return orjson.dumps(answer)
