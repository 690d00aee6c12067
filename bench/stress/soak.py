"""``make soak``: the whole platform under a mix of everything for ten minutes. Does a process grow?

The mix, by a few callers at once: reads, plans of writes, refused calls, REST, whole lists, sessions opened and closed,
subscription streams opened and left, long calls as tasks. Each process' memory is looked at every second. After the
warm-up (a fifth of the time, at most two minutes) its slope is fitted to the means of twelve stretches; neighbouring
seconds are no independent measurements. It grows not, if the slope's 95 % interval contains 0, or ten minutes of it
are less than a hundredth of what it has.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from bench import calls, clients, machine
from bench.load import LoadError
from bench.report import RESULTS
from bench.stress.platform import platform
from bench.stress.process import files_of, mb_of

SECONDS = 600
CALLERS = 6
WARM_SHARE, WARM_MAX_S = 0.2, 120.0
STRETCHES = 12
T_95 = 2.228
"""Student's t of ten degrees of freedom, two-sided."""
GROWN_MAX = 0.01
WATCHED = ("edge", "audit", "k8s-ops", "monitoring", "cmdb", "approvals", "nats-server")
TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


@dataclass(frozen=True)
class Trend:
    """How a process' memory went. MB and MB per hour."""

    name: str
    mb_first: float
    mb_last: float
    mb_most: float
    per_hour: float
    low: float
    high: float
    """The slope's 95 % interval."""
    grows: bool
    files_first: int
    files_last: int


def trend(name: str, samples: list[tuple[float, float]], most: float, files: tuple[int, int]) -> Trend:
    """The slope of ``(seconds, MB)``, over the means of STRETCHES parts of the time."""
    start, end = samples[0][0], samples[-1][0]
    width = (end - start) / STRETCHES
    points = []
    for number in range(STRETCHES):
        low = start + number * width
        inside = [mb for at, mb in samples if low <= at < low + width] or [samples[-1][1]]
        points.append((low + width / 2, sum(inside) / len(inside)))
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    error = T_95 * math.sqrt(left / (count - 2) / spread)
    low, high = (slope - error) * 3_600, (slope + error) * 3_600
    grows = low > 0 and slope * 600 > GROWN_MAX * mean_y
    return Trend(name, points[0][1], points[-1][1], most, slope * 3_600, low, high, grows, *files)


class Mix:
    """What the callers do, by turns."""

    def __init__(self, url: str, tokens: dict[str, str], tools: list[dict[str, Any]]) -> None:
        self._url, self._tokens = url, tokens
        self._reads = [
            tool["name"] for tool in tools
            if tool["annotations"]["readOnlyHint"] and not tool["inputSchema"].get("required")
        ]  # fmt: skip
        self._writes = [tool["name"] for tool in tools if not tool["annotations"]["readOnlyHint"]]
        self.done: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    async def caller(self, number: int, until: float) -> None:
        """One caller, until the time has come."""
        kinds: list[Callable[[httpx.AsyncClient, int], Awaitable[int]]] = [
            self._read, self._write, self._refused, self._read, self._rest, self._session, self._read, self._listen,
            self._list, self._task, self._stranger,
        ]  # fmt: skip
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            for turn in itertools.count(number):
                if time.monotonic() > until:
                    return
                kind = kinds[turn % len(kinds)]
                name = kind.__name__.lstrip("_")
                try:
                    self.answers[f"{name} {await kind(client, turn)}"] += 1
                except (httpx.HTTPError, OSError, LoadError, asyncio.IncompleteReadError) as error:
                    self.answers[f"{name} {type(error).__name__}"] += 1
                self.done[name] += 1

    async def _post(self, client: httpx.AsyncClient, made: tuple[dict[str, str], bytes]) -> int:
        headers, body = made
        return (await client.post("/mcp", headers=headers, content=body)).status_code

    async def _read(self, client: httpx.AsyncClient, turn: int) -> int:
        return await self._post(client, calls.call(self._tokens["admin"], self._reads[turn % len(self._reads)], {}))

    async def _write(self, client: httpx.AsyncClient, turn: int) -> int:
        tool = self._writes[turn % len(self._writes)]
        arguments = {"reason": "soak", "name": f"nothing-{turn % 50}", "namespace": "shop"}
        return await self._post(client, calls.call(self._tokens["admin"], tool, arguments))

    async def _refused(self, client: httpx.AsyncClient, turn: int) -> int:
        tool = self._writes[turn % len(self._writes)] if turn % 2 else f"no_such_tool_{turn}"
        return await self._post(client, calls.call(self._tokens["viewer"], tool, {}))

    async def _stranger(self, client: httpx.AsyncClient, turn: int) -> int:
        return await self._post(client, calls.call(f"not.a.token{turn}", self._reads[0], {}))

    async def _rest(self, client: httpx.AsyncClient, turn: int) -> int:
        headers = {"Authorization": f"Bearer {self._tokens['operator']}"}
        path = f"/api/v1/tools/{self._reads[turn % len(self._reads)]}/execute"
        return (await client.post(path, headers=headers, json={})).status_code

    async def _list(self, client: httpx.AsyncClient, turn: int) -> int:
        await client.get("/openapi.json", headers={"Authorization": f"Bearer {self._tokens['viewer']}"})
        return await self._post(client, calls.listing(self._tokens["admin"]))

    async def _session(self, client: httpx.AsyncClient, turn: int) -> int:
        token = self._tokens["operator"]
        (session,) = await calls.open_sessions(f"{self._url}/mcp", token, 1)
        headers, body = calls.in_session(token, self._reads[turn % len(self._reads)], "")
        its = headers | {"Mcp-Session-Id": session}
        await client.post("/mcp", headers=its, content=body)
        return (await client.delete("/mcp", headers=its)).status_code

    async def _listen(self, client: httpx.AsyncClient, turn: int) -> int:
        stream = await clients.ask(f"{self._url}/mcp", *calls.listening(self._tokens["operator"]))
        try:
            async with asyncio.timeout(30):
                await stream.until(b"\r\n\r\n")
            await asyncio.sleep(0.2)
        finally:
            stream.close()
        return 200

    async def _task(self, client: httpx.AsyncClient, turn: int) -> int:
        headers, body = calls.call(self._tokens["operator"], self._reads[turn % len(self._reads)], {})
        message = json.loads(body)
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = TASKS
        return (await client.post("/mcp", headers=headers, json=message)).status_code


async def soak(seconds: float) -> tuple[list[Trend], dict[str, Any]]:
    """Run it."""
    # A call that takes 20 ms becomes a task here: so there are many.
    async with platform(task_after_s="0.02", tasks_per_caller="1000", task_ttl_s="60") as facts:
        url, tokens, pids = facts["edge_url"], facts["tokens"], facts["pids"]
        mix = Mix(url, tokens, await _tools(url, tokens["admin"]))
        began = time.monotonic()
        callers = [asyncio.create_task(mix.caller(number, began + seconds)) for number in range(CALLERS)]
        await asyncio.sleep(min(WARM_SHARE * seconds, WARM_MAX_S))
        before = await _tables(url)
        names = [name for name in WATCHED if name in pids]
        files = {name: files_of(pids[name]) for name in names}
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        while not all(caller.done() for caller in callers):
            for name in names:
                samples[name].append((time.monotonic() - began, mb_of(pids[name])[0]))
            if sys.stderr.isatty():
                edge = samples["edge"][-1][1]
                print(f"\r{time.monotonic() - began:.0f} s, edge {edge:.1f} MB ", end="", file=sys.stderr)
            await asyncio.sleep(1.0)
        for caller in callers:
            await caller
        after = await _tables(url)
        trends = [
            trend(name, samples[name], mb_of(pids[name])[1], (files[name], files_of(pids[name]))) for name in names
        ]
    tables = {name: (before.get(name, 0.0), value) for name, value in after.items() if name in before or value}
    return trends, {"calls": dict(mix.done), "answers": dict(mix.answers), "tables": tables, "seconds": seconds}


async def _tools(url: str, token: str) -> list[dict[str, Any]]:
    headers, body = calls.listing(token)
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(60):
        while True:
            answer = await client.post(f"{url}/mcp", headers=headers, content=body)
            tools: list[dict[str, Any]] = answer.raise_for_status().json()["result"]["tools"]
            if len({tool["name"].partition("_")[0] for tool in tools}) >= 4:
                return tools
            await asyncio.sleep(0.5)


async def _tables(url: str) -> dict[str, float]:
    """The edge's gauges: sizes of what it holds."""
    async with httpx.AsyncClient(timeout=30) as client:
        text = (await client.get(f"{url}/metrics")).text
    gauges = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE") and line.endswith(" gauge")}
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        kind = name.partition("{")[0]
        if kind in gauges and not kind.endswith(("_created", "_info")):
            found[name] = float(value)
    return found


def show(trends: list[Trend], facts: dict[str, Any]) -> None:
    """At the terminal, and as JSON."""
    told = sum(facts["calls"].values())
    print(f"\nSoak: {facts['seconds']:.0f} s, {told:,} rounds of {len(facts['calls'])} kinds")
    print(f"  {'':<12} {'MB first':>9} {'last':>7} {'most':>7} {'MB/hour':>8}  {'95 %':>17}  {'files':>9}  grows")
    for one in trends:
        between = f"{one.low:+.1f} .. {one.high:+.1f}"
        print(
            f"  {one.name:<12} {one.mb_first:>9.1f} {one.mb_last:>7.1f} {one.mb_most:>7.1f} {one.per_hour:>+8.1f}"
            f"  {between:>17}  {one.files_first:>3} → {one.files_last:>3}  {'YES' if one.grows else 'no'}"
        )
    print("  of the edge: " + ", ".join(f"{name} {a:g} → {b:g}" for name, (a, b) in facts["tables"].items()))
    print("  answers: " + ", ".join(f"{name} {count}" for name, count in sorted(facts["answers"].items())))


def main() -> int:
    """``python -m bench.stress.soak [--seconds N]``; 1: something grows."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description="Memory over time, under a mix of calls.")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    seconds = parser.parse_args().seconds
    trends, facts = asyncio.run(soak(seconds))
    show(trends, facts)
    kept = {
        "suite": "soak",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.described(),
        "load_of_machine": os.getloadavg()[0],
        "trends": [asdict(one) for one in trends],
        **facts,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")
    return 1 if any(one.grows for one in trends) else 0


if __name__ == "__main__":
    sys.exit(main())
