"""The front door beside others: the same tool call through each of them, in turns, in one run.

All stand side by side from the start and take their rounds in turns, so that a machine that slows down slows down all.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bench import calls, load, plan
from bench.collector import Collector, collecting
from bench.estate import LIMITS, Estate
from bench.load import LoadError
from bench.measure import Asked, Beside, Measure, Round, absent, measure
from bench.rivals import contextforge

CONNECTIONS = 64
_SESSION = "4 opsbus, session era"
_REST = "5 opsbus, REST"


class Door(NamedTuple):
    """One way in."""

    name: str
    module: str
    tool: str = "demo_echo"
    """Of the kit's worker; ``bare_`` of the responder on bare nats-py."""
    settings: Mapping[str, str] = MappingProxyType(LIMITS)
    seconds: int = 0
    """Of a round, at least: of what takes seconds for 64 calls at once, a short round would count too few."""
    connections: int = CONNECTIONS
    shares: str = ""
    """Another row whose process this one uses."""
    signs_in: bool = True
    path: str = "/mcp"


class Ready(NamedTuple):
    """A door that answers."""

    url: str
    headers: dict[str, str]
    body: bytes
    pids: dict[str, int]
    sessions: tuple[str, ...] = ()


WRK = Door("0 wrk, trivial responder", "bench.rivals.trivial")
RELAY = Door("1 bare relay", "bench.rivals.relay", "bare_echo")
WHOLE = Door("2 opsbus, everything on", "bench.edges.whole")
SDK = Door("6 mcp SDK, low-level server", "bench.rivals.sdk", "bare_echo")
FASTMCP = Door("7 FastMCP server, no bus", "bench.rivals.fastmcp_server", "")
PROXY = Door("8 FastMCP proxy", "bench.rivals.fastmcp_proxy", "", seconds=8)
FORGE = "9 ContextForge"
RELAY_ALONE = RELAY._replace(name="1 bare relay, one client", connections=1, shares=RELAY.name)
WHOLE_ALONE = WHOLE._replace(name="2 opsbus, one client", connections=1, shares=WHOLE.name)

DOORS = (
    WRK,
    RELAY,
    RELAY_ALONE,
    WHOLE,
    WHOLE_ALONE,
    WHOLE._replace(name="2 … before a bare responder", tool="bare_echo", shares=WHOLE.name),
    WHOLE._replace(name="2 … a write, stored before", tool="demo_change", shares=WHOLE.name),
    *(
        Door(f"3 … {what} off", f"bench.edges.no_{what.lower()}", signs_in=what != "JWT")
        for what in ("JWT", "policy", "limits", "audit", "metrics", "traces")
    ),
    WHOLE._replace(name=_SESSION, shares=WHOLE.name),
    WHOLE._replace(name=_REST, shares=WHOLE.name, path="/api/v1/tools/demo_echo/execute"),
    SDK,
    FASTMCP,
    PROXY,
)


async def run() -> list[Measure]:
    """All doors, in turns; ContextForge by itself at the end, for it works in the background too."""
    now = plan.current()
    doors = _wanted(now.only)
    rounds: dict[str, list[Round]] = {}
    missing: dict[str, str] = {}
    forge_note = ""
    with tempfile.TemporaryDirectory() as folder, collecting() as collector:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with AsyncExitStack() as stack:
                ready = await _opened(estate, collector, stack, doors, missing)
                for number in range(now.rounds):
                    for door in (one for one in doors if one.name not in missing):
                        now.step(f"{door.name}, round {number + 1} of {now.rounds}")
                        try:
                            found = await _round(ready[door.name], door, max(door.seconds, now.seconds))
                        except LoadError as error:
                            missing[door.name] = f"not measured: {error}"
                        else:
                            rounds.setdefault(door.name, []).append(found)
                if not collector.batches:
                    raise LoadError("no trace arrived at the collector: tracing was not on")
                if not now.only or now.only in FORGE:
                    try:
                        rounds[FORGE], forge_note = await _forge(ready[FASTMCP.name])
                    except (contextforge.NotStartedError, LoadError) as error:
                        missing[FORGE] = f"not measured: {error}"
                estate.end()
        finally:
            await estate.stop()
    return _rows(rounds, missing, forge_note)


def _wanted(only: str) -> list[Door]:
    """The doors with this in their names, those whose processes they use, and those that all are measured by."""
    if not only:
        return list(DOORS)
    needed = {RELAY.name, RELAY_ALONE.name, WHOLE.name, FASTMCP.name}
    return [door for door in DOORS if door.name in needed or only in door.name]


def _rows(rounds: dict[str, list[Round]], missing: Mapping[str, str], forge_note: str = "") -> list[Measure]:
    """The rows in the order of the doors.

    Raises:
        LoadError: there is nothing to measure them by.
    """
    rounds = {name: found for name, found in rounds.items() if name not in missing}
    for name in (RELAY.name, RELAY_ALONE.name):
        if name in missing:
            raise LoadError(f"{name}: {missing[name]}")
    relay = measure(RELAY.name, rounds[RELAY.name])
    rates = {name: measure(name, found).per_s for name, found in rounds.items()}
    alone = measure(RELAY_ALONE.name, rounds[RELAY_ALONE.name])
    asked = {
        WHOLE.name: Asked(
            beside=tuple(
                Beside(other.name, rates[other.name], times)
                for other, times in ((RELAY, 0.6), (SDK, 2.0), (FASTMCP, 8.0), (PROXY, 200.0))
                if other.name in rates
            ),
            tail=4.0,
        ),
        WHOLE_ALONE.name: Asked(p50_over=(alone.name, alone.p50_ms, 1.0)),
    }
    rows = [measure(name, found, relay, asked.get(name)) for name, found in rounds.items() if name != FORGE]
    if FORGE in rounds:
        rows.append(measure(FORGE, rounds[FORGE], relay, note=forge_note))
    return rows + [absent(name, why) for name, why in missing.items()]


async def _opened(
    estate: Estate, collector: Collector, stack: AsyncExitStack, doors: Sequence[Door], missing: dict[str, str]
) -> dict[str, Ready]:
    """Those that answer; ``missing`` gets why others do not."""
    now = plan.current()
    kit = await stack.enter_async_context(estate.worker("bench.workers.kit", collector.settings))
    bare = await stack.enter_async_context(estate.worker("bench.workers.bare", service="bare"))
    fastmcp = ""
    found: dict[str, Ready] = {}
    for door in doors:
        now.step(f"{door.name} starts")
        if door.shares:
            of = found[door.shares]
            base, pids = of.url.rpartition("/mcp")[0], of.pids
        else:
            more = collector.settings | {"OPSBUS_BENCH_SERVICE": "bare", "OPSBUS_BENCH_BACKEND": fastmcp}
            edge = await stack.enter_async_context(estate.edge(door.module, more, **door.settings))
            base, pids = edge.url, {"door": edge.pid}
        if door.module == FASTMCP.module:
            fastmcp = f"{base}/mcp"
        behind = _behind(door, kit, bare, found)
        pids = {"door": pids["door"], **({"behind": behind} if behind else {}), "nats": estate.server_pid}
        ready = await _request(base, door, estate.token(), pids)
        found[door.name] = ready
        try:
            if not ready.sessions and door is not WRK:
                await calls.answers(base, ready.headers, ready.body, door.path)
            if not door.shares:
                await _warmed(ready, door)
        except (LoadError, TimeoutError) as error:
            missing[door.name] = f"not measured: {error}"
    return found


async def _warmed(ready: Ready, door: Door) -> None:
    few = 4 if door.seconds else 16  # what is slow is warm after a few calls
    warm_s = plan.current().warm_s
    await load.post(ready.url, ready.headers, ready.body, connections=few, seconds=warm_s, pids={})


def _behind(door: Door, kit: int, bare: int, found: Mapping[str, Ready]) -> int:
    if door.module == PROXY.module:
        return found[FASTMCP.name].pids["door"]
    return {"demo": kit, "bare": bare}.get(door.tool.partition("_")[0], 0) if door is not WRK else 0


async def _request(base: str, door: Door, token: str, pids: dict[str, int]) -> Ready:
    url = f"{base}{door.path}"
    if door.name == _SESSION:
        headers, body = calls.in_session(token, door.tool)
        sessions = await calls.open_sessions(url, token, CONNECTIONS)
        return Ready(url, headers, body, pids, tuple(sessions))
    if door.name == _REST:
        return Ready(url, *calls.rest(token), pids)
    # The rivals have one tool; the relay and the trivial responder read nothing.
    tool = door.tool if door.module.startswith("bench.edges.") else "demo_echo"
    return Ready(url, *calls.request(token if door.signs_in else "", tool), pids)


async def _round(ready: Ready, door: Door, seconds: int) -> Round:
    url, headers, body, pids, sessions = ready
    return await load.post(
        url, headers, body, connections=door.connections, seconds=seconds, pids=pids, sessions=sessions
    )


async def _forge(fastmcp: Ready) -> tuple[list[Round], str]:
    now = plan.current()
    now.step(f"{FORGE} starts")
    async with contextforge.running(fastmcp.url) as forge:
        pids = {"door": forge.pid, "behind": fastmcp.pids["door"], "nats": fastmcp.pids["nats"]}

        async def once(seconds: int) -> Round:
            return await load.post(
                forge.url, forge.headers, forge.body, connections=CONNECTIONS, seconds=seconds, pids=pids
            )

        await once(plan.current().warm_s)
        found = []
        for number in range(now.rounds):
            now.step(f"{FORGE}, round {number + 1} of {now.rounds}")
            found.append(await once(max(6, now.seconds)))
        return found, f"version {forge.version}" if forge.version else ""
