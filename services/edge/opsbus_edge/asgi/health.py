"""``/live``, ``/ready``, ``/health``: whether the process runs, should get requests, and how its dependencies are."""

import asyncio
import contextlib
import time
from typing import Literal

import nats.errors
import nats.js.errors
from pydantic import BaseModel

from opsbus import tasks
from opsbus_contracts.streams import AUDIT
from opsbus_edge import __version__
from opsbus_edge.context import Edge

PROBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 2.0


class Dependency(BaseModel):
    """One thing the edge cannot do without."""

    status: Literal["healthy", "degraded", "unhealthy"]
    detail: str = ""


class HealthReport(BaseModel):
    """How it is. Everybody may ask, so it names no address and no service; ``/api/v1/catalog/services`` does."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    instance: str
    uptime_s: float
    dependencies: dict[str, Dependency]


class Health:
    """Looks at the stream AUDIT now and then; the rest is known at any moment."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._started = time.monotonic()
        self._audit_missing = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then begin to look now and then."""
        await self._probe()
        self._task = asyncio.create_task(self._run(), name="health")

    async def stop(self) -> None:
        """End it."""
        await tasks.end(self._task)

    def not_ready(self) -> list[str]:
        """Why no requests should come here; empty: they may."""
        edge = self._edge
        reasons = [
            "the edge is shutting down" if edge.drain.is_set() else "",
            "" if edge.nc.is_connected else "NATS is not connected",
            "" if edge.catalog.ready else "the catalogue has not been read",
            ""
            if edge.shut_out.quarantines.watch.age_s <= edge.settings.quarantine_stale_s
            else "what is quarantined cannot be told",
            edge.audit.problem() or self._audit_missing,
        ]
        return [reason for reason in reasons if reason]

    def report(self) -> HealthReport:
        """The state of each dependency; the worst that matters is the whole's."""
        edge = self._edge
        dependencies = {
            "nats": _dependency(edge.nc.is_connected, "unhealthy", "not connected", "connected"),
            "catalog": _dependency(
                edge.catalog.ready and edge.watch.healthy,
                "degraded" if edge.catalog.ready else "unhealthy",
                "the watch is being set up again" if edge.catalog.ready else "not read yet",
                f"{len(edge.catalog.tools())} tools, {len(edge.catalog.refusals)} refusals",
            ),
        }
        stale_s = edge.api_keys.watch.age_s
        dependencies["api_keys"] = _dependency(
            stale_s <= edge.settings.api_keys_stale_s,
            "degraded",
            "the watch of the API keys is behind: requests with one are answered 503",
            "the watch is current",
        )
        quarantines = edge.shut_out.quarantines
        dependencies["quarantine"] = _dependency(
            quarantines.watch.age_s <= edge.settings.quarantine_stale_s,
            "unhealthy",
            "what is quarantined cannot be told: nothing is let in",
            f"{len(quarantines.in_force())} in force",
        )
        dependencies["policy"] = _dependency(
            not edge.policy_watch.problem,
            "degraded",
            "the policy file is broken, the one before is in force; the log tells the line",
            "in force",
        )
        problem = edge.audit.problem() or self._audit_missing
        # Without the record writes are refused and reads go on: degraded.
        dependencies["audit"] = _dependency(not problem, "degraded", problem, f"{edge.audit.pending} events pending")
        services = len(edge.catalog.services())
        dependencies["workers"] = _dependency(services > 0, "degraded", "no worker is there", f"{services} services")
        states = {dependency.status for dependency in dependencies.values()}
        status = next(state for state in ("unhealthy", "degraded", "healthy") if state in states)
        return HealthReport(
            status=status,
            version=__version__,
            instance=edge.instance,
            uptime_s=round(time.monotonic() - self._started, 1),
            dependencies=dependencies,
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            await self._probe()

    async def _probe(self) -> None:
        try:
            info = await self._edge.nc.jetstream(timeout=PROBE_TIMEOUT_S).stream_info(AUDIT.name)
            state, limit = info.state, info.config.max_bytes or 0
            full = limit > 0 and state.bytes >= limit
            self._audit_missing = f"the stream {AUDIT.name} is full" if full else ""
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            self._audit_missing = f"the stream {AUDIT.name} does not answer ({type(error).__name__})"
        edge = self._edge
        with contextlib.suppress(ValueError):
            edge.metrics.audit_pending.set(edge.audit.pending)
            edge.metrics.audit_spool_bytes.set(edge.audit.spool_bytes)
        edge.metrics.catalog_tools.set(len(edge.catalog.tools()))
        edge.metrics.catalog_refusals.set(len(edge.catalog.refusals))
        edge.metrics.nats_connected.set(edge.nc.is_connected)
        edge.metrics.policy_broken.set(bool(edge.policy_watch.problem))


def _dependency(
    fine: bool, otherwise: Literal["degraded", "unhealthy"], problem: str | None, detail: str
) -> Dependency:
    if fine:
        return Dependency(status="healthy", detail=detail)
    return Dependency(status=otherwise, detail=problem or "")
