"""Requests that are no good HTTP, or good for one reader and something else for the next: sent raw."""

from attacks.model import ECHO, Attack, mcp, raw, rest

BODY = '{"arguments": {}}'
HEAD = f"POST {ECHO} HTTP/1.1\r\nHost: localhost\r\n{{auth}}\r\nContent-Type: application/json\r\n"
TAIL = "Connection: close\r\n\r\n"
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n{TAIL}"
SMUGGLED = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def body(length: str, content: str = BODY) -> str:
    return f"{HEAD}Content-Length: {length}\r\n{TAIL}{content}"


ATTACKS = [
    Attack(
        "length and chunks",
        raw(f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n{TAIL}0\r\n\r\n{SMUGGLED}"),
        400,
    ),
    Attack("chunks and length", raw(f"{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack(
        "chunked twice", raw(f"{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{TAIL}0\r\n\r\n"), 400
    ),
    Attack("chunked, identity", raw(f"{HEAD}Transfer-Encoding: chunked, identity\r\n{TAIL}0\r\n\r\n"), 400),
    Attack("transfer encoding xchunked", raw(f"{HEAD}Transfer-Encoding: xchunked\r\n{TAIL}{BODY}"), 400),
    Attack("blank before the colon of a length", raw(f"{HEAD}Content-Length : 17\r\n{TAIL}{BODY}"), 400),
    Attack("blank before the colon of an encoding", raw(f"{HEAD}Transfer-Encoding : chunked\r\n{TAIL}0\r\n\r\n"), 400),
    Attack("folded encoding", raw(f"{HEAD}Transfer-Encoding:\r\n chunked\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack(
        "folded header",
        raw(f"GET /api/v1/tools HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n{{auth}}\r\n{TAIL}"),
        400,
    ),
    Attack("two lengths", raw(f"{HEAD}Content-Length: 17\r\nContent-Length: 5\r\n{TAIL}{BODY}"), 400),
    Attack("the same length twice", raw(f"{HEAD}Content-Length: 17\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("a list of lengths", raw(body("17, 17")), 400),
    Attack("negative length", raw(body("-17")), 400),
    Attack("length with a plus", raw(body("+17")), 400),
    Attack("length in hexadecimal", raw(body("0x11")), 400),
    Attack("length with a blank inside", raw(body("1 7")), 400),
    Attack("length with a point", raw(body("17.0")), 400),
    Attack("length of 30 digits", raw(body("9" * 30)), 400),
    Attack("empty length", raw(body("")), 400),
    Attack("length beyond the limit", raw(body("99999999999")), 413, "request_too_large"),
    Attack("lines end in LF alone", raw(body("17").replace("\r\n", "\n")), 400),
    Attack("a line ends in LF alone", raw(f"{HEAD}X-A: b\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("a line ends in CR alone", raw(f"{HEAD}X-A: b\rContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("zero byte in a value", raw(f"{HEAD}X-A: b\x00c\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("control character in a value", raw(f"{HEAD}X-A: b\x01c\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("blank in a name", raw(f"{HEAD}X A: b\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("zero byte in a name", raw(f"{HEAD}X\x00A: b\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("no name", raw(f"{HEAD}: b\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack("no colon", raw(f"{HEAD}X-A\r\nContent-Length: 17\r\n{TAIL}{BODY}"), 400),
    Attack(
        "blank line before the headers", raw(f"POST {ECHO} HTTP/1.1\r\n Host: localhost\r\n{{auth}}\r\n{TAIL}"), 400
    ),
    Attack("chunk size that is no number", raw(f"{CHUNKED}zz\r\n{BODY}\r\n0\r\n\r\n"), 400),
    Attack("chunk size that overflows", raw(f"{CHUNKED}{'f' * 17}\r\n{BODY}\r\n0\r\n\r\n"), 400),
    Attack("negative chunk size", raw(f"{CHUNKED}-1\r\n{BODY}\r\n0\r\n\r\n"), 400),
    Attack("chunk longer than it says", raw(f"{CHUNKED}2\r\n{BODY}\r\n0\r\n\r\n"), 400),
    Attack("chunk that ends in LF alone", raw(f"{CHUNKED}11\r\n{BODY}\n0\r\n\r\n"), 400),
    Attack("no Host", raw(f"GET /api/v1/tools HTTP/1.1\r\n{{auth}}\r\n{TAIL}"), 400),
    Attack("no Host in HTTP/1.0", raw("GET /api/v1/tools HTTP/1.0\r\n{auth}\r\n\r\n"), 400),
    Attack(
        "two Hosts",
        raw(f"GET /api/v1/tools HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n{{auth}}\r\n{TAIL}"),
        421,
    ),
    Attack(
        "two Hosts, the good one last",
        raw(f"GET /api/v1/tools HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n{{auth}}\r\n{TAIL}"),
        400,
    ),
    Attack("two content types", rest(more=[("Content-Type", "text/plain")]), 400, says="content-type"),
    Attack("two idempotency keys", rest(more=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]), 400),
    Attack("two session ids", mcp(more=[("Mcp-Session-Id", "a"), ("Mcp-Session-Id", "b")]), 400, says="mcp-session-id"),
    Attack(
        "two protocol versions", mcp(more=[("MCP-Protocol-Version", "2025-06-18")]), 400, says="mcp-protocol-version"
    ),
    Attack("two Mcp-Names", mcp(more=[("Mcp-Name", "demo_remove")]), 400, says="mcp-name"),
    Attack("two Mcp-Methods", mcp(more=[("Mcp-Method", "tools/list")]), 400, says="mcp-method"),
    Attack(
        "two Origins", rest(more=[("Origin", "http://localhost"), ("Origin", "http://localhost")]), 400, says="origin"
    ),
    Attack("CONNECT", raw(f"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n{{auth}}\r\n{TAIL}"), 400),
    Attack("TRACE", rest("TRACE", "/api/v1/tools"), 405),
    Attack("method in lower case", raw(body("17").replace("POST", "post", 1)), 400),
    Attack("method nobody knows", raw(body("17").replace("POST", "EXECUTE", 1)), 400),
    Attack("HTTP/0.9", raw("GET /api/v1/tools\r\n\r\n"), 400),
    Attack("HTTP/2 without asking", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400),
    Attack("HTTP/3.0", raw(f"GET /api/v1/tools HTTP/3.0\r\nHost: localhost\r\n{{auth}}\r\n{TAIL}"), 400),
    Attack("HTTP of another name", raw(f"GET /api/v1/tools HTTQ/1.1\r\nHost: localhost\r\n{TAIL}"), 400),
    Attack("TLS to a listener without", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 80), 400),
    Attack("blank in the path", raw(f"GET /api/v1/tools x HTTP/1.1\r\nHost: localhost\r\n{{auth}}\r\n{TAIL}"), 400),
    Attack(
        "target of 40,000 characters", rest("GET", "/api/v1/tools?cursor=" + "a" * 40_000), 431, "request_too_large"
    ),
    Attack("header of 40,000 characters", rest(headers={"X-Long": "a" * 40_000}), 431, "request_too_large"),
    Attack("two hundred headers", rest(more=[(f"X-{n}", "1") for n in range(200)]), 431, "request_too_large"),
    Attack("query of 9,000 characters", rest("GET", "/api/v1/tools?cursor=" + "a" * 9_000), 400),
    Attack(
        "body beyond the limit",
        rest(body=b'{"arguments": {"text": "' + b"a" * 300_000 + b'"}}'),
        413,
        "request_too_large",
    ),
    Attack(
        "body in chunks beyond the limit",
        raw(f"{CHUNKED}{'61a80'}\r\n{'a' * 400_000}\r\n0\r\n\r\n"),
        413,
        "request_too_large",
    ),
    Attack("body to MCP beyond the limit", mcp(body=b'{"a": "' + b"a" * 300_000 + b'"}'), 413, "request_too_large"),
    Attack("no content type", rest(headers={"Content-Type": None}), 415),
    Attack("content type text/plain", rest(headers={"Content-Type": "text/plain"}), 415),
    Attack("content type of a form", rest(headers={"Content-Type": "application/x-www-form-urlencoded"}), 415),
    Attack("content type that begins like JSON", rest(headers={"Content-Type": "application/jsonp"}), 415),
    Attack("content type of a form, to MCP", mcp(headers={"Content-Type": "text/plain"}), 415),
    Attack("compressed body", rest(headers={"Content-Encoding": "gzip"}), 415),
    Attack("compressed body to MCP", mcp(headers={"Content-Encoding": "gzip"}), 415),
    Attack(
        "upgrade to a web socket",
        rest("GET", "/nothing", headers={"Connection": "Upgrade", "Upgrade": "websocket"}),
        404,
        "not_found",
    ),
    Attack(
        "line break in an encoded header", mcp(headers={"Mcp-Name": "=?base64?ZGVtb19lY2hvDQpYLUE6IGI=?="}), 400, -32020
    ),
]
