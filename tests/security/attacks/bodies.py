"""Bodies: JSON that is none, too deep, too large, or means two things; JSON-RPC that is none."""

import json
from dataclasses import replace

from attacks.model import ABSENT, META, Attack, call, mcp, rest

DEEP = 100
ARGUMENTS = b'{"arguments": %s}'


def text(value: bytes) -> bytes:
    return b'{"arguments": {"text": "' + value + b'"}}'


BROKEN: list[tuple[str, bytes]] = [
    ("nothing but blanks and a brace", b"  { "),
    ("not closed", b'{"arguments": {}'),
    ("closed too often", b'{"arguments": {}}}'),
    ("text behind it", b'{"arguments": {}} x'),
    ("a second value behind it", b'{"arguments": {}}{"arguments": {}}'),
    ("a comma too many", b'{"arguments": {},}'),
    ("a comment", b'{"arguments": {} /* all */}'),
    ("single quotes", b"{'arguments': {}}"),
    ("a name without quotes", b"{arguments: {}}"),
    ("NaN", ARGUMENTS % b'{"number": NaN}'),
    ("Infinity", ARGUMENTS % b'{"number": Infinity}'),
    ("-Infinity", ARGUMENTS % b'{"number": -Infinity}'),
    ("hexadecimal", ARGUMENTS % b'{"number": 0x10}'),
    ("a leading zero", ARGUMENTS % b'{"number": 010}'),
    ("a leading plus", ARGUMENTS % b'{"number": +1}'),
    ("True", ARGUMENTS % b'{"number": True}'),
    ("a line break in text", text(b"a\nb")),
    ("a zero byte in text", text(b"a\x00b")),
    ("a zero byte behind it", b'{"arguments": {}}\x00'),
    ("invalid UTF-8", text(b"\xff\xfe")),
    ("overlong UTF-8", text(b"\xc0\xaf")),
    ("a surrogate in UTF-8", text(b"\xed\xa0\x80")),
    ("UTF-8 beyond Unicode", text(b"\xf5\x80\x80\x80")),
    ("half a lone surrogate", text(b"\\ud800")),
    ("UTF-16", '{"arguments": {}}'.encode("utf-16")),
    ("UTF-32", '{"arguments": {}}'.encode("utf-32")),
    ("a byte order mark", b"\xef\xbb\xbf" + b'{"arguments": {}}'),
    ("an escape there is none of", text(b"\\x41")),
    ("lists a hundred deep", ARGUMENTS % (b'{"text": ' + b"[" * DEEP + b"]" * DEEP + b"}")),
    ("objects a hundred deep", b'{"arguments":' * DEEP + b"{}" + b"}" * DEEP),
    ("a hundred thousand open brackets", b"[" * 100_000),
    ("a hundred thousand open objects", b'{"a":' * 40_000),
    ("brackets hidden behind an escaped quote", b'{"a": "\\"", "b": ' + b"[" * DEEP + b"]" * DEEP + b"}"),
    ("arguments twice", b'{"arguments": {"text": "good"}, "arguments": {"text": "evil"}}'),
    ("an argument twice", ARGUMENTS % b'{"text": "good", "text": "evil"}'),
    ("an argument twice, once escaped", ARGUMENTS % b'{"text": "good", "\\u0074ext": "evil"}'),
    ("an argument twice, a colon escaped", ARGUMENTS % b'{"text": "\\u003a", "text": "evil"}'),
    ("a number of 5,000 digits", b'{"arguments": {}, "timeout_s": 1' + b"0" * 5_000 + b"}"),
    ("a name twice, deep inside", ARGUMENTS % b'{"text": {"a": [{"b": 1, "b": 2}]}}'),
]
SHAPES: list[tuple[str, bytes]] = [
    ("a list", b"[]"),
    ("text", b'"arguments"'),
    ("a number", b"1"),
    ("null", b"null"),
    ("arguments that are a list", ARGUMENTS % b"[]"),
    ("arguments that are null", ARGUMENTS % b"null"),
    ("arguments that are text", ARGUMENTS % b'"{}"'),
    ("a field nobody knows", b'{"arguments": {}, "permissions": ["*"]}'),
    ("a caller in the body", b'{"arguments": {}, "caller": {"sub": "admin"}}'),
    ("a prototype", b'{"arguments": {}, "__proto__": {"admin": true}}'),
    ("an endless timeout", b'{"arguments": {}, "timeout_s": 1e308}'),
    ("a negative timeout", b'{"arguments": {}, "timeout_s": -1}'),
]
ENVELOPES = [
    ("JSON-RPC 1.0", {"jsonrpc": "1.0"}, 400, -32600),
    ("JSON-RPC 2", {"jsonrpc": 2}, 400, -32600),
    ("no jsonrpc", {"jsonrpc": ABSENT}, 400, -32600),
    ("id null", {"id": None}, 400, -32600),
    ("id true", {"id": True}, 400, -32600),
    ("id a list", {"id": [1]}, 400, -32600),
    ("id an object", {"id": {"a": 1}}, 400, -32600),
    ("id with a fraction", {"id": 1.5}, 400, -32600),
    ("method a number", {"method": 1}, 400, -32600),
    ("no method", {"method": ABSENT}, 400, -32600),
    ("params a list", {"params": ["demo_echo"]}, 400, -32600),
    ("params text", {"params": "demo_echo"}, 400, -32600),
]
MANY = json.dumps(
    [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "demo_echo"}} for n in range(50)]
)
LARGE = {"text": "a" * 40_000}

_ROWS = [
    *(Attack(f"REST body: {name}", rest(body=body), 400) for name, body in BROKEN),
    *(Attack(f"MCP body: {name}", mcp(body=body), 400) for name, body in BROKEN if "surrogate" not in name),
    *(Attack(f"REST body: {name}", rest(body=body), 422, "invalid_arguments") for name, body in SHAPES),
    *(Attack(f"envelope: {name}", mcp(envelope=parts), status, code) for name, parts, status, code in ENVELOPES),
    Attack("a batch", mcp(body=f"[{json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': 'tools/call'})}]"), 400, -32600),
    Attack("a batch of 50 calls", mcp(body=MANY), 400, -32600),
    Attack("an empty batch", mcp(body="[]"), 400, -32600),
    Attack("an empty body", mcp(body=b""), 400),
    Attack("a batch over REST", rest(body=MANY), 422, "invalid_arguments"),
    Attack("arguments beyond their limit", rest(body=json.dumps({"arguments": LARGE})), 413, "request_too_large"),
    Attack("arguments beyond their limit, over MCP", call("demo_echo", LARGE), 413, "request_too_large"),
    Attack("no _meta", mcp(params={"name": "demo_echo", "_meta": None}), 400, -32602),
    Attack(
        "_meta of another version",
        mcp(params={"name": "demo_echo", "_meta": META | {"io.modelcontextprotocol/protocolVersion": "1999-01-01"}}),
        400,
        -32020,
    ),
    Attack("name a list", mcp(params={"name": ["demo_echo"], "arguments": {}}), 400, -32020),
    Attack("arguments a list", mcp(params={"name": "demo_echo", "arguments": []}), 400, -32602),
]

# All come from a caller who is known.
ATTACKS = [replace(row, denied=True) for row in _ROWS]
