"""10, 1,000 and 10,000 tools in the catalogue: what a list costs, and what a call does."""

import asyncio
import time
from typing import NamedTuple

import httpx

from bench import calls, load, plan
from bench.load import LoadError
from bench.measure import Asked, Measure, Round, measure
from bench.scale import crowd
from bench.scale.lab import Lab, lab

COUNTS = (10, 1_000, 10_000)
MANY_CLIENTS = 1_000
MEMORY_MB = 120.0
GROWN = 0.10
_OWN = 3
"""Tools of the worker that is called."""
_SEEN_WITHIN_S = 60.0


class Listed(NamedTuple):
    """All pages of a list."""

    tools: int
    pages: int
    bytes: int
    ms: float


async def run() -> list[Measure]:
    """For each count a row of calls, and one of lists; with the most, one of a thousand clients."""
    rows: list[Measure] = []
    first: Measure | None = None
    for count in COUNTS:
        async with lab() as it:
            people = crowd.Crowd(await it.estate.bus.connect("provisioner"))
            try:
                began = time.perf_counter()
                await people.join(crowd.with_tools(count - _OWN))
                listed = await _listed(it, count)
                seen_s = time.perf_counter() - began
                called = await it.rounds(f"{count:,} tools, calls")
                lists = await _lists(it, count)
                if (await _listed_once(it)).tools < count:
                    raise LoadError(f"the catalogue lost some of its {count:,} tools while it was asked")
                asked = _asked(first, called)
                row = measure(f"{count:,} tools: a call", called, first, asked, note=f"all seen after {seen_s:.1f} s")
                first = first or row
                rows += [row, measure(f"{count:,} tools: tools/list", lists, note=_said(listed))]
                if count == COUNTS[-1]:
                    name = f"{count:,} tools, {MANY_CLIENTS:,} clients"
                    many = await it.rounds(name, MANY_CLIENTS)
                    rows.append(measure(name, many, first, Asked(peak_mb=("edge", MEMORY_MB))))
            finally:
                await people.stop()
    return rows


def _asked(first: Measure | None, _: list[Round]) -> Asked | None:
    return None if first is None else Asked(cpu_grown=(first.name, "edge", first.cpu_us["edge"], GROWN))


def _said(listed: Listed) -> str:
    pages = "one page" if listed.pages == 1 else f"{listed.pages} pages"
    return f"{listed.bytes / 1e3:,.0f} kB in {pages}, all in {listed.ms:.0f} ms"


async def _listed(it: Lab, count: int) -> Listed:
    """The whole list, once it has all tools."""
    async with asyncio.timeout(_SEEN_WITHIN_S):
        while (await _listed_once(it)).tools < count:
            await asyncio.sleep(0.1)
        return await _listed_once(it)  # from cached bytes, as every other one


async def _listed_once(it: Lab) -> Listed:
    async with it.http() as client:
        return await _pages(client, it.edge.token)


async def _pages(client: httpx.AsyncClient, token: str) -> Listed:
    tools = pages = size = 0
    cursor: str | None = None
    began = time.perf_counter()
    while True:
        headers, body = calls.listing(token, cursor)
        answer = await client.post("/mcp", headers=headers, content=body)
        result = answer.raise_for_status().json()["result"]
        tools, pages, size = tools + len(result["tools"]), pages + 1, size + len(answer.content)
        cursor = result.get("nextCursor")
        if not cursor:
            return Listed(tools, pages, size, 1_000 * (time.perf_counter() - began))


async def _lists(it: Lab, count: int) -> list[Round]:
    """First pages, by one client."""
    now = plan.current()
    headers, body = calls.listing(it.edge.token)
    found = []
    for number in range(now.rounds):
        now.step(f"{count:,} tools, lists, round {number + 1} of {now.rounds}")
        found.append(await load.post(f"{it.edge.url}/mcp", headers, body, connections=1, seconds=1, pids=it.pids))
    return found
