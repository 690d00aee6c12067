"""A row of the attack table, and what it sends. Everything is sent as bytes: no client library tidies it up."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attacks.world import World

VERSION = "2026-07-28"
ECHO = "/api/v1/tools/demo_echo/execute"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "attacker", "version": "1"},
}
Build = Callable[[World], bytes]
Text = str | Callable[[World], str]
Body = bytes | str | Callable[[World], bytes]


@dataclass(frozen=True)
class Attack:
    """What is sent, and what must come of it. In no case does a tool run."""

    name: str
    send: Build
    status: int
    """0: the connection ends without an answer."""
    code: str | int = "invalid_request"
    """The ErrorBody's code; an int is a JSON-RPC code that has none."""
    denied: bool = False
    """Whether the record has it as denied, with who and why."""
    reaches_worker: bool = False
    """A worker is asked and refuses: confirmations are its matter."""
    says: str = ""
    """A part of the message."""


def request(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str | None] | None = None,
    more: list[tuple[str, str]] | None = None,
    *,
    version: str = "HTTP/1.1",
) -> bytes:
    """Bytes of a request. ``headers`` overrides (None: leaves out), ``more`` is put behind as it is."""
    found: dict[str, str | None] = {"Host": "localhost", "Connection": "close"}
    if body or method in ("POST", "PUT", "PATCH"):
        found |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    names = {name.lower(): name for name in found}
    for name, value in (headers or {}).items():
        found[names.get(name.lower(), name)] = value
    lines = [f"{name}: {value}" for name, value in found.items() if value is not None]
    lines += [f"{name}: {value}" for name, value in more or []]
    head = f"{method} {path} {version}\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return head.encode("utf-8", "surrogateescape") + body


def _text(value: Text | None, world: World) -> str | None:
    return value(world) if callable(value) else value


def _bytes(value: Body, world: World) -> bytes:
    found = value(world) if callable(value) else value
    return found.encode("utf-8", "surrogatepass") if isinstance(found, str) else found


def as_(role: str, sub: str | None = None) -> Callable[[World], str]:
    """The Authorization header of a caller."""
    return lambda world: f"Bearer {world.token(role, sub=sub)}"


ADMIN = as_("admin")


def rest(
    method: str = "POST",
    path: Text = ECHO,
    body: Body = b'{"arguments": {"text": "x"}}',
    *,
    auth: Text | None = ADMIN,
    headers: Mapping[str, Text | None] | None = None,
    more: list[tuple[str, str]] | None = None,
    version: str = "HTTP/1.1",
) -> Build:
    """A REST request, by default one that would run a tool."""

    def build(world: World) -> bytes:
        content = _bytes(body, world) if method in ("POST", "PUT", "PATCH") else b""
        found = {"Authorization": _text(auth, world)} | {k: _text(v, world) for k, v in (headers or {}).items()}
        return request(method, str(_text(path, world)), content, found, more, version=version)

    return build


def mcp(
    method: str = "tools/call",
    params: Mapping[str, Any] | Callable[[World], Mapping[str, Any]] | None = None,
    *,
    auth: Text | None = ADMIN,
    body: Body | None = None,
    envelope: Mapping[str, Any] | None = None,
    headers: Mapping[str, Text | None] | None = None,
    more: list[tuple[str, str]] | None = None,
) -> Build:
    """A modern MCP request, by default one that would run a tool; ``body`` replaces it, ``envelope`` parts of it."""

    def build(world: World) -> bytes:
        given = dict((params(world) if callable(params) else params) or {"name": "demo_echo", "arguments": {}})
        given.setdefault("_meta", META)
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given} | dict(envelope or {})
        message = {key: value for key, value in message.items() if value is not ABSENT}
        content = json.dumps(message).encode() if body is None else _bytes(body, world)
        name = given.get("name", given.get("uri"))
        found: dict[str, str | None] = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            "Mcp-Method": method,
            "Mcp-Name": name if isinstance(name, str) and name.isascii() and name.isprintable() else None,
            "Authorization": _text(auth, world),
        } | {k: _text(v, world) for k, v in (headers or {}).items()}
        return request("POST", "/mcp", content, found, more)

    return build


ABSENT = object()
"""Leaves a key of the envelope out."""


def call(name: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Build:
    """A modern tools/call of a tool."""
    return mcp("tools/call", {"name": name, "arguments": dict(arguments or {})}, **options)


def raw(text: str | bytes | Callable[[World], str]) -> Build:
    """Bytes as they are; ``{auth}`` becomes the Authorization header's line."""

    def build(world: World) -> bytes:
        found = text(world) if callable(text) else text
        if isinstance(found, str):
            found = found.encode("latin-1")
        return found.replace(b"{auth}", f"Authorization: Bearer {world.token('admin')}".encode())

    return build


@dataclass
class Outcome:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def error(self) -> tuple[str | int, str, str]:
        """``(code, message, hint)``, from whichever of the three forms an error has."""
        found = json.loads(_last_event(self.body) if b"\ndata:" in self.body else self.body)
        if "result" in found:
            inner = found["result"]["structuredContent"]["error"]
            return inner["code"], inner["message"], inner["hint"]
        error = found["error"]
        data = error.get("data") or {}
        code = data.get("code", error["code"])
        return code, error["message"], error.get("hint") or data.get("hint", "")


def _last_event(body: bytes) -> bytes:
    return [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()][-1]
