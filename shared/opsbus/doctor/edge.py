"""The edge: is it healthy, and which announcements did it refuse?"""

import json
from typing import Any

from opsbus.commands.where import EdgeAccess
from opsbus.doctor.finding import Finding, Level, fail, ok, warn
from opsbus.up.probe import http_get

REFUSALS = "/api/v1/catalog/refusals"


async def check_edge(edge: EdgeAccess) -> list[Finding]:
    """Health, and a finding per refusal."""
    if not edge.url:
        return [warn("edge", "its address is not known", "name it with --edge-url or OPSBUS_EDGE_URL")]
    health = await _health(edge)
    if health.level is Level.FAIL:
        return [health]
    return [health, *await _refusals(edge)]


async def _health(edge: EdgeAccess) -> Finding:
    status, body = await http_get(f"{edge.url}/health")
    if status == 0:
        return fail("edge", f"nobody answers at {edge.url}: {body.decode('utf-8', 'replace')[:200]}", "is it running?")
    state = _object(body).get("status", "")
    if status != 200:
        return fail("edge", f"{edge.url} says {state or status}", f"see {edge.url}/health and the edge's log")
    if state not in ("", "healthy", "ok"):
        return warn("edge", f"{edge.url} says {state}", f"see {edge.url}/health")
    return ok("edge", f"{edge.url} is healthy")


async def _refusals(edge: EdgeAccess) -> list[Finding]:
    status, body = await http_get(f"{edge.url}{REFUSALS}", edge.token)
    if status in (401, 403):
        hint = (
            "name a token with --token or OPSBUS_TOKEN"
            if not edge.token
            else "the token is not good here, or may not ask"
        )
        return [warn("catalogue at the edge", f"not shown ({status})", hint)]
    if status != 200:
        return [warn("catalogue at the edge", f"{REFUSALS} answers {status}", "is this an edge of this version?")]
    refusals = _object(body).get("refusals", [])
    if not refusals:
        return [ok("catalogue at the edge", "nothing was refused")]
    return [
        fail(
            f"service {refusal.get('service', '?')}",
            f"{refusal.get('item') or 'the whole manifest'} of {refusal.get('instance', '?')} is refused: "
            f"{refusal.get('reason', '')}",
            "its team must repair it; every other tool works",
        )
        for refusal in refusals
    ]


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
