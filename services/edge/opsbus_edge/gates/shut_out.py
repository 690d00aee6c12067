"""The gate that keeps out what is quarantined, and ends the calls of it that run. What is: opsbus.quarantine."""

import asyncio

from nats.aio.client import Client

from opsbus.quarantine import Quarantines, told
from opsbus_contracts.access import Quarantine, QuarantineKind
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_edge.catalog import ToolEntry
from opsbus_edge.dispatch.order import Target
from opsbus_edge.model import Caller, Request, error_body

GRACE_S = 1.0
"""A worker ends its calls by itself and says how it went; after this long the edge ends them without its word."""
_HINT = "Ask the platform's operators."


class Running:
    """A call under way, that may be ended. One for each; ``ended``: the quarantine that did."""

    __slots__ = ("ended", "request", "target", "task")

    def __init__(self, request: Request, target: Target) -> None:
        self.request = request
        self.target = target
        self.task = asyncio.current_task()
        self.ended: Quarantine | None = None

    def is_of(self, quarantine: Quarantine) -> bool:
        """Whether the quarantine is about this call. Which instance has it only the workers know."""
        caller, target = self.request.caller, self.target
        match quarantine.kind:
            case QuarantineKind.CALLER:
                return caller.sub == quarantine.target
            case QuarantineKind.KEY:
                return caller.key == quarantine.target
            case QuarantineKind.SERVICE:
                return target.service == quarantine.target
            case QuarantineKind.TOOL:
                return isinstance(target, ToolEntry) and target.name == quarantine.target
            case QuarantineKind.WORKER:
                return target.instances == (quarantine.target,)

    def end(self, quarantine: Quarantine) -> None:
        """End it, if it still runs."""
        if self.ended is None and self.task is not None and not self.task.done():
            self.ended = quarantine
            self.task.cancel()


class ShutOut:
    """The quarantines as this edge holds to them.

    Args:
        stale_s: Without news of the bucket for this long nothing is let in: what was shut out meanwhile is not known.
    """

    def __init__(self, nc: Client, stale_s: float) -> None:
        self._stale_s = stale_s
        self._running: set[Running] = set()
        self.quarantines = Quarantines(nc, self.begun)

    def caller(self, caller: Caller) -> ErrorBody | None:
        """Whether the caller is shut out, before anything is done for them."""
        if self.quarantines.watch.age_s > self._stale_s:
            return _unknown()
        return _refusal(self.quarantines.find((QuarantineKind.CALLER, caller.sub), (QuarantineKind.KEY, caller.key)))

    def call(self, request: Request, target: Target) -> ErrorBody | None:
        """Whether the call is: by its caller or what it is for."""
        refused = self.caller(request.caller)
        if refused is not None or not self.quarantines.any:
            return refused
        tool = target.name if isinstance(target, ToolEntry) else ""
        found = self.quarantines.find((QuarantineKind.TOOL, tool), (QuarantineKind.SERVICE, target.service))
        if found is None and target.instances:
            each = [self.quarantines.find((QuarantineKind.WORKER, instance)) for instance in target.instances]
            found = each[0] if all(each) else None
        return _refusal(found)

    def enter(self, request: Request, target: Target) -> Running:
        """A call is about to be dispatched."""
        running = Running(request, target)
        self._running.add(running)
        return running

    def leave(self, running: Running) -> None:
        """It has ended."""
        self._running.discard(running)

    def begun(self, quarantine: Quarantine) -> None:
        """A quarantine began: what runs of it ends."""
        loop = asyncio.get_running_loop()
        for running in [one for one in self._running if one.is_of(quarantine)]:
            loop.call_later(GRACE_S, running.end, quarantine)

    def cut_short(self, running: Running, dispatched: bool) -> ErrorBody:
        """The error of a call that was ended."""
        quarantine = running.ended
        tool = running.target
        mutating = isinstance(tool, ToolEntry) and tool.mutating
        return error_body(
            ErrorCode.QUARANTINED,
            f"the call was ended: {told(quarantine)}" if quarantine is not None else "the call was ended",
            hint=_HINT if not mutating else f"{_HINT} Read the state before anything else.",
            executed=Executed.UNKNOWN if dispatched and mutating else Executed.NO,
        )


def _refusal(found: Quarantine | None) -> ErrorBody | None:
    return error_body(ErrorCode.QUARANTINED, told(found), hint=_HINT) if found is not None else None


def _unknown() -> ErrorBody:
    return error_body(
        ErrorCode.UNAVAILABLE,
        "what is quarantined cannot be told at this moment",
        hint="Try again in a few seconds; the platform's operators see it at /ready.",
        retry_after_ms=2_000,
    )
