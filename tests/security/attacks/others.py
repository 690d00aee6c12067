"""What is another caller's, or was good once: sessions, states, confirmations, cursors, blobs; headers that lie."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attacks.model import Attack, Build, as_, call, mcp, request, rest
from attacks.world import World

VIEWER, EVE = as_("viewer"), as_("admin", "eve@shop.example")
ANSWERS = {"sure": {"action": "accept", "content": {"sure": True}}}


def answered(state: Callable[[World], Any], *, name: str = "web", tool: str = "demo_remove", auth: Any = None) -> Build:
    """The second round of a question, with a state of the attacker's choice."""

    def params(world: World) -> dict[str, Any]:
        return {
            "name": tool, "arguments": {"name": name}, "inputResponses": ANSWERS, "requestState": state(world),
        }  # fmt: skip

    return mcp(params=params, **({"auth": auth} if auth else {}))


def state(world: World) -> str:
    return str(world.facts["state"])


def confirmed(token: Callable[[World], str], *, auth: Any = None, **arguments: Any) -> Build:
    """A write with a confirmation of the attacker's choice, by a client that cannot be asked."""

    def body(world: World) -> str:
        given = {"name": "web", "replicas": 5} | arguments | {"confirm": token(world)}
        return json.dumps({"arguments": given})

    return rest(path="/api/v1/tools/demo_scale/execute", body=body, **({"auth": auth} if auth else {}))


def spare(world: World) -> str:
    return str(world.facts["confirm"])


def spent(world: World) -> str:
    return str(world.facts["spent"])


def in_session(
    session: Callable[[World], str], *, auth: Any = EVE, method: str = "POST", version: str = "2025-11-25", **more: str
) -> Build:
    """A call inside a session of the older era."""

    def build(world: World) -> bytes:
        message = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "demo_echo", "arguments": {}}}
        headers = {
            "Accept": "application/json, text/event-stream" if method == "POST" else "text/event-stream",
            "MCP-Protocol-Version": version,
            "Mcp-Session-Id": session(world),
            "Authorization": auth(world),
        } | {name.replace("_", "-"): value for name, value in more.items()}
        return request(method, "/mcp", json.dumps(message).encode() if method == "POST" else b"", headers)

    return build


def session(world: World) -> str:
    return str(world.facts["session"])


def instance(world: World) -> str:
    return session(world).split(".", maxsplit=1)[0]


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def blob(world: World) -> str:
    return str(world.facts["blob"])


def read(uri: Callable[[World], str], auth: Any = VIEWER) -> Build:
    return mcp("resources/read", lambda world: {"uri": uri(world)}, auth=auth, headers={"Mcp-Name": uri})


STATES = [
    ("of another caller", answered(state, auth=EVE)),
    ("of other arguments", answered(state, name="everything")),
    ("of another tool", answered(state, tool="demo_scale")),
    ("cut", answered(lambda w: state(w)[:-8])),
    ("lengthened", answered(lambda w: state(w) + "AAAA")),
    ("changed at its end", answered(lambda w: state(w)[:-6] + "AAAAAA")),
    ("changed at its beginning", answered(lambda w: "AAAA" + state(w)[4:])),
    ("empty", answered(lambda _: "")),
    ("made up", answered(lambda _: base64.b64encode(b'{"answers": {}}').decode())),
    ("of 100,000 characters", answered(lambda _: "A" * 100_000)),
]
CURSORS = [
    "x",
    "a" * 5_000,
    cursor("tools"),
    cursor("resources:a"),
    cursor(":a"),
    "../..",
    "\u00e4",
    cursor("tools:") + "=",
]
LIES = [
    ("Mcp-Name names another tool", {"Mcp-Name": "demo_remove"}),
    ("Mcp-Name is missing", {"Mcp-Name": None}),
    ("Mcp-Name is empty", {"Mcp-Name": ""}),
    ("Mcp-Method names another method", {"Mcp-Method": "tools/list"}),
    ("Mcp-Method is missing", {"Mcp-Method": None}),
    ("Mcp-Method in upper case", {"Mcp-Method": "TOOLS/CALL"}),
    ("protocol version of the past", {"MCP-Protocol-Version": "1999-01-01"}),
    ("protocol version of the future", {"MCP-Protocol-Version": "2099-01-01"}),
    ("protocol version that is none", {"MCP-Protocol-Version": "latest"}),
]

_ROWS = [
    *(Attack(f"state {name}", sent, 400, denied=True) for name, sent in STATES),
    Attack(
        "confirmation of another caller", confirmed(spare, auth=EVE), 412, "precondition_failed", reaches_worker=True
    ),
    Attack(
        "confirmation of other arguments",
        confirmed(spare, replicas=500),
        412,
        "precondition_failed",
        reaches_worker=True,
    ),
    Attack(
        "confirmation of another object", confirmed(spare, name="db"), 412, "precondition_failed", reaches_worker=True
    ),
    Attack("confirmation that is spent", confirmed(spent), 412, "precondition_failed", reaches_worker=True),
    Attack(
        "confirmation that is made up", confirmed(lambda _: "a" * 32), 412, "precondition_failed", reaches_worker=True
    ),
    Attack(
        "confirmation that is too short", confirmed(lambda _: "yes"), 412, "precondition_failed", reaches_worker=True
    ),
    Attack(
        "confirmation that leaves its key",
        confirmed(lambda _: "../../KEYS/identity"),
        412,
        "precondition_failed",
        reaches_worker=True,
    ),
    Attack("session of another caller", in_session(session), 404, -32600),
    Attack("session of another caller, its stream", in_session(session, method="GET"), 404, -32600),
    Attack(
        "session of another caller, from an event on", in_session(session, method="GET", Last_Event_ID="1"), 404, -32600
    ),
    Attack("session of another caller, ended", in_session(session, method="DELETE"), 404, -32600),
    Attack("session nobody gave", in_session(lambda w: instance(w) + "." + "0" * 32), 404, -32600),
    Attack("session of an edge there is not", in_session(lambda _: "edge-00000000." + "0" * 32), 404, "not_found"),
    Attack("session without an edge", in_session(lambda _: "0" * 32), 404, "not_found"),
    Attack("session that names a subject", in_session(lambda _: "edge.>." + "0" * 32), 404, "not_found"),
    Attack("session that names all edges", in_session(lambda _: "*." + "0" * 32), 404, "not_found"),
    Attack("session of 5,000 characters", in_session(lambda w: instance(w) + "." + "0" * 5_000), 404, -32600),
    *(
        Attack(f"cursor {value[:20]!r}", rest("GET", f"/api/v1/tools?cursor={value}"), 400)
        for value in CURSORS
        if value.isascii()
    ),
    *(Attack(f"MCP cursor {value[:20]!r}", mcp("tools/list", {"cursor": value}), 400) for value in CURSORS),
    Attack("cursor that is a number", mcp("tools/list", {"cursor": 7}), 400),
    Attack("blob without its permission", read(blob), 200, "forbidden", denied=True),
    Attack(
        "blob without its permission, over REST",
        rest("GET", lambda w: f"/api/v1/resources/read?uri={blob(w)}", auth=VIEWER),
        403,
        "forbidden",
        denied=True,
    ),
    Attack(
        "blob of another service", read(lambda w: blob(w).replace("demo", "k8s")), 400, "unknown_resource", denied=True
    ),
    Attack(
        "blob that leaves its folder",
        read(lambda _: "opsbus://demo/blobs/../../KEYS"),
        400,
        "unknown_resource",
        denied=True,
    ),
    Attack("resource without its permission", read(lambda _: "demo://things/a"), 200, "forbidden", denied=True),
    Attack("file", read(lambda _: "file:///etc/passwd"), 400, "unknown_resource", denied=True),
    Attack(
        "address of the cloud's metadata",
        read(lambda _: "http://169.254.169.254/latest/meta-data"),
        400,
        "unknown_resource",
        denied=True,
    ),
    Attack(
        "prompt without its permission",
        mcp("prompts/get", {"name": "demo_runbook", "arguments": {"name": "x"}}, auth=VIEWER),
        200,
        "forbidden",
        denied=True,
    ),
    Attack(
        "tool without its permission",
        call("demo_scale", {"name": "web", "replicas": 0}, auth=VIEWER),
        200,
        "forbidden",
        denied=True,
    ),
    Attack(
        "tool without its permission, over REST",
        rest(path="/api/v1/tools/demo_scale/execute", auth=VIEWER),
        403,
        "forbidden",
        denied=True,
    ),
    Attack("tool without any role", call("demo_echo", auth=as_("nobody")), 200, "forbidden", denied=True),
    Attack("tool with a role nobody knows", call("demo_echo", auth=as_("superadmin")), 200, "forbidden", denied=True),
    Attack("role with a wildcard", call("demo_scale", auth=as_("*")), 200, "forbidden", denied=True),
    Attack("role with a permission", call("demo_scale", auth=as_("demo:write")), 200, "forbidden", denied=True),
    Attack("role in another case", call("demo_scale", auth=as_("ADMIN")), 200, "forbidden", denied=True),
    Attack("the platform's own list", rest("GET", "/api/v1/catalog/services", auth=as_("nobody")), 403, "forbidden"),
    *(Attack(name, mcp(headers=headers), 400, -32020) for name, headers in LIES),
    Attack(
        "a header says the tool one may use",
        call("demo_scale", {"name": "web", "replicas": 0}, auth=VIEWER, headers={"Mcp-Name": "demo_echo"}),
        400,
        -32020,
    ),
]

# All come from a caller who is known; what a worker refuses is recorded as failed.
ATTACKS = [replace(row, denied=not row.reaches_worker) for row in _ROWS]
