"""Three times what the edge can take: what it serves then, how it refuses, whom it spares, how fast it is itself again.

In one run, the settings of the edge as they are by default but the bounds of one caller and one service: first
its peak by closed loops of wrk's kind; then three times that by the clock, while another caller sends a call every
50 ms; then connections that ask again at once whatever they are told; after each, how long until an answer takes what
it took before. The stream AUDIT is counted: each answer that said "served" has its end in the record.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from bench import plan
from bench.calls import answers, request
from bench.estate import Estate, RunningEdge
from bench.measure import Asked, Measure, Verdict
from bench.stress.generator import Plan, offer
from opsbus_contracts.streams import AUDIT

TIMES = 3.0
PEAK_CONNECTIONS = (32, 64, 256)
CONNECTIONS = 8_000
"""Of the load by the clock: more than ever wait at once."""
STUBBORN = 4_000
SECONDS = 8.0
NEIGHBOUR_EVERY_S = 0.05
AGAIN_WITHIN_S = 1.0
KEPT = 0.9
P99_MS = 2_000.0
"""The queue's bound (a second) and what a call takes beside."""
_SETTINGS = {"load_factor": "1000", "connections_max": "10000"}
TOOL = "demo_echo"


class Neighbour:
    """Another caller, who asks for little: every 50 ms a call, one connection."""

    def __init__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        self._url, self._headers, self._body = f"{url}/mcp", headers, body
        self.asked: list[tuple[float, float, bool]] = []
        """When, how long it took in seconds, whether it was served."""
        self._client = httpx.AsyncClient(timeout=30)
        self._task: asyncio.Task[None] | None = None

    async def once(self) -> None:
        """A call."""
        began = time.perf_counter()
        served = False
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._client.post(self._url, headers=self._headers, content=self._body)
            served = answer.status_code == 200 and b'"isError":false' in answer.content
        self.asked.append((began, time.perf_counter() - began, served))

    async def _run(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(NEIGHBOUR_EVERY_S)

    async def __aenter__(self) -> "Neighbour":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._client.aclose()

    def between(self, start: float, end: float) -> list[tuple[float, float, bool]]:
        """What was asked in this time."""
        return [one for one in self.asked if start <= one[0] < end]

    def again_after_s(self, end: float, usual_s: float) -> float:
        """From when on, after a load's end, five calls in a row took no longer than is usual; infinite: never."""
        fine = 0
        for began, took, served in self.asked:
            if began + took < end:
                continue
            fine = fine + 1 if served and took <= usual_s else 0
            if fine == 1:
                first = began + took - end
            if fine == 5:
                return max(0.0, first)
        return float("inf")


async def run() -> list[Measure]:
    """The whole run."""
    with tempfile.TemporaryDirectory() as folder:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with estate.worker("bench.workers.bare"), estate.edge("bench.edges.whole", None, **_SETTINGS) as edge:
                return await _measured(estate, edge)
        finally:
            await estate.stop()


async def _measured(estate: Estate, edge: RunningEdge) -> list[Measure]:
    headers, body = request(edge.token, TOOL)
    other, _ = request(estate.token("neighbour@lab"), TOOL)
    await answers(edge.url, headers, body)
    load = Plan(f"{edge.url}/mcp", headers, body.decode(), connections=64, seconds=2.0)
    await offer(load)
    in_record = await ended(estate)
    async with sink(estate) as url:
        able = await offer(replace(load, url=f"{url}/mcp", connections=256, seconds=2.0))
    served = 0
    async with Neighbour(edge.url, other, body) as neighbour:
        await asyncio.sleep(1.0)
        usual_s = 5 * max(0.01, *(took for _, took, _ in neighbour.asked))
        peaks = []
        for connections in PEAK_CONNECTIONS:
            plan.current().step(f"peak, {connections} connections")
            found = await _offered(edge, replace(load, connections=connections, seconds=SECONDS / 2, warm_s=0.5))
            peaks.append((found, connections))
            await asyncio.sleep(0.5)
        best, at = max(peaks, key=lambda one: one[0]["kinds"]["served"]["per_s"])
        peak = best["kinds"]["served"]["per_s"]
        rows = [_row(f"peak, {at} connections", best, "served", None)]
        served += sum(found["all"]["served"] for found, _ in peaks)
        for name, more in (
            (
                f"{TIMES:g} × by the clock",
                replace(load, connections=CONNECTIONS, seconds=SECONDS, warm_s=1.0, per_s=TIMES * peak),
            ),
            (f"{STUBBORN:,} that do not wait", replace(load, connections=STUBBORN, seconds=SECONDS, warm_s=1.0)),
        ):
            plan.current().step(name)
            started = time.perf_counter()
            found = await _offered(edge, more)
            ended_at = time.perf_counter() - found["drained_s"]
            served += found["all"]["served"]
            await asyncio.sleep(2.0)
            again = Verdict(
                f"as before within {AGAIN_WITHIN_S:g} s", f"{neighbour.again_after_s(ended_at, usual_s):.2f} s",
                neighbour.again_after_s(ended_at, usual_s) < AGAIN_WITHIN_S,
            )  # fmt: skip
            by_cpu = best["edge_us"] / found["edge_us"]
            spared = Verdict("≥ 0.90 of its peak by its own CPU time", f"{by_cpu:.2f}", by_cpu >= KEPT)
            p99_ms = found["kinds"]["served"]["p99_ms"]
            bounded = Verdict(f"p99 < {P99_MS:,.0f} ms", f"{p99_ms:,.0f} ms", p99_ms < P99_MS)
            asked = Asked(ratio=KEPT, more=(spared, bounded, again))
            rows.append(_row(f"{name}: served", found, "served", peak, asked, _told(found, able)))
            rows.append(_row(f"{name}: refused", found, "refused", peak))
            meanwhile = neighbour.between(started + 1.5, ended_at)
            rows.append(_neighbour(f"{name}: another caller", meanwhile, ended_at - started - 1.5))
        served += sum(served for _, _, served in neighbour.asked)
    in_record = await ended(estate) - in_record
    kept = Verdict("what was answered is in the record", f"{in_record:,} of {served:,}", in_record >= served)
    rows[0] = replace(rows[0], asked=Asked(more=(kept,)))
    return rows


def _told(found: dict[str, Any], able: dict[str, Any]) -> str:
    kinds = found["kinds"].values()
    parts = (
        f"{sum(kind['per_s'] for kind in kinds):,.0f} answers per s: {found['answers']}",
        f"cut off {found['lost']}, unanswered {found['unanswered']}, not sent {found['not_sent']}",
        f"the generator used {found['cpu_share']:.0%} of a core and was {found['late_p99_ms']:.1f} ms late (p99)",
        f"against a server that does nothing it does {able['kinds']['served']['per_s']:,.0f} per s",
        f"load of the machine {os.getloadavg()[0]:.1f}",
    )
    return "; ".join(parts)


async def _offered(edge: RunningEdge, plan: Plan) -> dict[str, Any]:
    """A load, and the edge's CPU time for each call that it served: the measure that a busy machine does not bend."""
    found = await offer(replace(plan, pid=edge.pid))
    found["edge_us"] = found["pid_cpu_s"] * 1e6 / max(1, found["kinds"]["served"]["number"])
    return found


@asynccontextmanager
async def sink(estate: Estate) -> AsyncIterator[str]:
    """A server that does nothing."""
    async with estate.edge("bench.stress.sink") as server:
        yield server.url


async def ended(estate: Estate) -> int:
    """Events in the record that tell of a call that was completed, when no more come."""
    before = -1
    js = await estate.bus.jetstream()
    while True:
        info = await js.stream_info(AUDIT.name, subjects_filter="audit.edge.completed")
        now = sum((info.state.subjects or {}).values())
        if now == before:
            return now
        before = now
        await asyncio.sleep(0.5)


def _row(
    name: str, found: dict[str, Any], kind: str, peak: float | None, asked: Asked | None = None, note: str = ""
) -> Measure:
    one = found["kinds"][kind]
    return Measure(
        name=name,
        per_s=one["per_s"],
        spread=0.0,
        p50_ms=one["p50_ms"],
        p95_ms=one["p95_ms"],
        p99_ms=one["p99_ms"],
        cpu_us={"edge": found["edge_us"]} if kind == "served" else {},
        ratio=one["per_s"] / peak if peak else None,
        asked=asked,
        note=note,
    )


def _neighbour(name: str, asked: list[tuple[float, float, bool]], seconds: float) -> Measure:
    served = sorted(took * 1000 for _, took, served in asked if served)
    return Measure(
        name=f"{name} ({len(served)} of {len(asked)} served)",
        per_s=len(served) / seconds,
        spread=0.0,
        p50_ms=served[len(served) // 2] if served else 0.0,
        p95_ms=served[int(len(served) * 0.95)] if served else 0.0,
        p99_ms=served[int(len(served) * 0.99)] if served else 0.0,
        cpu_us={},
    )
