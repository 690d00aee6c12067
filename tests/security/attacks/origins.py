"""Where a request says it comes from: Host, Origin, addresses. Connections come from the one trusted proxy."""

from attacks.model import Attack, mcp, raw, rest

HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evil.example:80",
    "localhost@evil.example",
    "evil.example#localhost",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "localhost:80:80",
    "localhost:port",
    "[::1",
    "0",
    "2130706433",
    "localhost.",
    "localhost,evil.example",
    "localhost evil.example",
]
ORIGINS = [
    "http://evil.example",
    "https://evil.example",
    "http://localhost.evil.example",
    "http://evil.example/http://localhost",
    "http://localhost@evil.example",
    "http://localhost:port",
    "http://localhost:80:80",
    "null",
    "file://",
    "chrome-extension://abc",
    "localhost",
    "*",
    "http://127.0.0.1.evil.example",
]


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", value) for value in values]


ATTACKS = [
    *(Attack(f"Host {host}", rest(headers={"Host": host}), 421) for host in HOSTS),
    *(Attack(f"Origin {origin}", rest(headers={"Origin": origin}), 403, "forbidden") for origin in ORIGINS),
    Attack("Origin of a foreign page, to MCP", mcp(headers={"Origin": "http://evil.example"}), 403, "forbidden"),
    Attack(
        "preflight of a foreign page",
        rest("OPTIONS", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}, auth=None),
        403,
        "forbidden",
    ),
    Attack("preflight that is none", rest("OPTIONS", auth=None), 401, "unauthenticated"),
    Attack(
        "absolute target of another host",
        raw(
            "GET http://evil.example/api/v1/tools HTTP/1.1\r\nHost: evil.example\r\n{auth}\r\nConnection: close\r\n\r\n"
        ),
        421,
    ),
    Attack("X-Forwarded-Host", rest(headers={"Host": "evil.example"}, more=[("X-Forwarded-Host", "localhost")]), 421),
    Attack("from a network that is denied", rest(more=forwarded("203.0.113.7")), 403, "forbidden"),
    Attack("from it, mapped into IPv6", rest(more=forwarded("::ffff:203.0.113.7")), 403, "forbidden"),
    Attack("from it, with a port", rest(more=forwarded("203.0.113.7:4711")), 403, "forbidden"),
    Attack("from it, in brackets", rest(more=forwarded("[::ffff:203.0.113.7]:4711")), 403, "forbidden"),
    Attack(
        "from it, hidden behind a good address", rest(more=forwarded("198.51.100.1, 203.0.113.7")), 403, "forbidden"
    ),
    Attack("from it, on a line of its own", rest(more=forwarded("198.51.100.1", "203.0.113.7")), 403, "forbidden"),
    Attack("from it, behind the proxy's own address", rest(more=forwarded("203.0.113.7, 127.0.0.1")), 403, "forbidden"),
    Attack(
        "from it, the other header lies",
        rest(more=[*forwarded("203.0.113.7"), ("Forwarded", "for=198.51.100.1")]),
        403,
        "forbidden",
    ),
    Attack(
        "from it, a real IP lies", rest(more=[*forwarded("203.0.113.7"), ("X-Real-IP", "127.0.0.1")]), 403, "forbidden"
    ),
    Attack("from it, to MCP", mcp(more=forwarded("203.0.113.7")), 403, "forbidden"),
    Attack("from nobody knows where", rest(more=forwarded("unknown")), 400, says="x-forwarded-for"),
    Attack("from a name", rest(more=forwarded("good.example")), 400, says="x-forwarded-for"),
    Attack("from an address in octal", rest(more=forwarded("0313.0.0113.7")), 400, says="x-forwarded-for"),
    Attack("from an address in one number", rest(more=forwarded("3405803783")), 400, says="x-forwarded-for"),
    Attack("from an address with a zone", rest(more=forwarded("fe80::1%eth0")), 400, says="x-forwarded-for"),
    Attack("from a script", rest(more=forwarded("<script>alert(1)</script>")), 400, says="x-forwarded-for"),
]
