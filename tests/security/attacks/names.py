"""Names of tools that look like others, or like what the bus and the file system read in them."""

import json
from urllib.parse import quote

from attacks.model import Attack, call, rest

NAMES = [
    ("Cyrillic letter", "d\u0435mo_echo"),
    ("Greek letter", "dem\u03bf_echo"),
    ("full-width letters", "\uff44\uff45\uff4d\uff4f_echo"),
    ("full-width underscore", "demo\uff3fecho"),
    ("ligature", "demo_ech\u2134"),
    ("mathematical letters", "\U0001d41d\U0001d41e\U0001d426\U0001d428_echo"),
    ("zero-width space", "demo_\u200becho"),
    ("zero-width joiner", "demo\u200d_echo"),
    ("word joiner at its end", "demo_echo\u2060"),
    ("byte order mark at its beginning", "\ufeffdemo_echo"),
    ("written from right to left", "\u202eohce_omed"),
    ("isolated", "\u2066demo_echo\u2069"),
    ("combining accent", "demo_e\u0301cho"),
    ("soft hyphen", "demo_\u00adecho"),
    ("no-break space", "demo_echo\u00a0"),
    ("Turkish dotless i", "demo_\u0131echo"),
    ("tag characters", "demo_echo\U000e0061"),
    ("variation selector", "demo_echo\ufe0f"),
    ("upper case", "DEMO_ECHO"),
    ("blank before", " demo_echo"),
    ("blank behind", "demo_echo "),
    ("tab", "demo_\techo"),
    ("line break", "demo_echo\n"),
    ("line break and header", "demo_echo\r\nX-A: b"),
    ("zero byte", "demo_echo\x00"),
    ("escape sequence", "\x1b[2Jdemo_echo"),
    ("wildcard", "demo_*"),
    ("wildcard of the rest", "demo.>"),
    ("subject", "tool.demo.echo"),
    ("subject in the name", "demo_echo.secret"),
    ("inbox", "_INBOX.edge.x"),
    ("JetStream", "$JS.API.STREAM.DELETE.AUDIT"),
    ("parent folder", "../demo_echo"),
    ("folder", "demo/echo"),
    ("two underscores", "demo__echo"),
    ("hyphen", "demo-echo"),
    ("escaped", "demo%5Fecho"),
    ("markup", "<script>alert(1)</script>"),
    ("template", "{{demo_echo}}"),
    ("format", "%s%n"),
    ("lookup", "${jndi:ldap://127.0.0.1:9/x}"),
    ("query", "demo_echo' OR '1'='1"),
    ("of 65 characters", "demo_" + "e" * 60),
    ("of 3,000 characters", "e" * 3_000),
]


def over_rest(name: str) -> Attack:
    body = json.dumps({"name": name, "arguments": {}})
    long = len(name) > 128
    sent = rest(path="/api/v1/mcp/tools/execute", body=body)
    status, code = (422, "invalid_arguments") if long else (404, "unknown_tool")
    return Attack(f"REST name: {name[:20]!r}", sent, status, code, denied=not long)


ATTACKS = [
    *(
        Attack(
            f"MCP name: {what}",
            call(name),
            400,
            "unknown_tool" if name.isascii() and name.isprintable() and name == name.strip() else -32020,
            denied=True,
        )
        for what, name in NAMES
    ),
    *(over_rest(name) for _, name in NAMES[::3]),
    *(
        Attack(
            f"path with name: {what}",
            rest(path="/api/v1/tools/" + quote(name, safe="") + "/execute"),
            404,
            "unknown_tool",
            denied=True,
        )
        for what, name in NAMES[:12]
    ),
    Attack("empty name", call(""), 400, "unknown_tool", denied=True),
    Attack("no name and no tool", rest(path="/api/v1/mcp/tools/execute", body="{}"), 400),
    Attack(
        "name and tool",
        rest(path="/api/v1/mcp/tools/execute", body='{"name": "demo_echo", "tool": "demo_remove"}'),
        400,
    ),
]
