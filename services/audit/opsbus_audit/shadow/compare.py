"""One shadow run: pick the calls, send each, compare, and sum up by tool."""

import asyncio
import hashlib
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from opsbus_audit.reading import Batch, json_of
from opsbus_audit.shadow.difference import SHOWN_MAX, VOLATILE, Difference, differences, result_of
from opsbus_audit.shadow.eligible import Skipped, refusal
from opsbus_audit.shadow.send import Answer
from opsbus_contracts.audit import ENDS
from opsbus_contracts.catalog import ToolSpec

CALLS_MAX = 100_000
"""Calls held at once: those whose end has not been read, and those to be sent."""

VETOES_MAX = 1_000_000
"""Calls remembered as ones that may change something."""


@dataclass
class Recorded:
    """A call of the record that may be sent again."""

    call: str
    tool: str
    actor: str
    arguments: dict[str, Any]
    roles: tuple[str, ...] = ()
    status: str = ""
    ms: float | None = None
    digest: str = ""


@dataclass
class Compared:
    """One call, and how the candidate did."""

    call: str
    tool: str
    verdict: str
    """``same``, ``different``, or ``not comparable``."""
    recorded: str
    candidate: str
    recorded_ms: float | None
    candidate_ms: float
    differences: list[Difference] = field(default_factory=list)


@dataclass
class Picked:
    """What the record has for a candidate."""

    calls: list[Recorded]
    skipped: Counter[str]


class Sends(Protocol):
    """The candidate."""

    async def call(self, tool: ToolSpec, actor: str, arguments: dict[str, Any], roles: Sequence[str]) -> Answer:
        """Send a read."""
        ...


class Asks(Protocol):
    """The version in service."""

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        """Ask it."""
        ...


async def pick(
    events: AsyncIterator[Batch], service: str, reads: dict[str, ToolSpec], others: set[str], most: int
) -> Picked:
    """The calls to send, in the order they were asked, and how many of the service's are left out, and why."""
    picking = _Picking(service, reads, others)
    async for batch in events:
        for item in batch:
            event = json_of(item.payload)
            if event is not None:
                picking.take(event["data"])
    return picking.done(most)


class _Picking:
    """What is known so far of the calls of a period."""

    def __init__(self, service: str, reads: dict[str, ToolSpec], others: set[str]) -> None:
        self._service, self._reads, self._others = service, reads, others
        self._asked: dict[str, Recorded] = {}
        self._vetoed: set[str] = set()
        self._skipped: Counter[str] = Counter()

    def take(self, data: dict[str, Any]) -> None:
        """One event. Whichever step of whichever service says that a call may change something is believed."""
        call, stage = data.get("call"), data.get("stage")
        if not isinstance(call, str):
            return
        if data.get("mutating", False) is not False:
            if call not in self._vetoed and (data.get("service") == self._service or call in self._asked):
                self._skipped[Skipped.MUTATING] += 1
            self._veto(call)
        elif data.get("service") != self._service:
            return
        elif stage == "requested":
            self._requested(call, data)
        elif call in self._asked and stage in _END_STAGES:
            _ended(self._asked[call], data)

    def _requested(self, call: str, data: dict[str, Any]) -> None:
        if call in self._vetoed:
            return
        why = refusal(data, self._reads, self._others)
        if call in self._asked:
            why = Skipped.NO_TOOL_CALL  # an id that comes twice is nobody's
            self._veto(call)
        elif why is None and len(self._asked) >= CALLS_MAX:
            why = Skipped.OVER_LIMIT
        if why is not None:
            self._skipped[why] += 1
        else:
            arguments = data.get("arguments") or {}
            told = data.get("roles")
            roles = tuple(role for role in told if isinstance(role, str)) if isinstance(told, list) else ()
            self._asked[call] = Recorded(call, data["tool"], str(data.get("actor", "")), arguments, roles)

    def _veto(self, call: str) -> None:
        self._asked.pop(call, None)
        self._vetoed.add(call)
        if len(self._vetoed) > VETOES_MAX:
            raise ValueError("too many writes in this period; take a shorter one")

    def done(self, most: int) -> Picked:
        """The calls that ended, and what is left out."""
        whole = [call for call in self._asked.values() if call.status]
        self._skipped[Skipped.NOT_ENDED] += len(self._asked) - len(whole)
        self._skipped[Skipped.OVER_LIMIT] += max(0, len(whole) - most)
        return Picked(whole[:most], +self._skipped)


_END_STAGES = frozenset(stage.value for stage in ENDS)


def _ended(call: Recorded, data: dict[str, Any]) -> None:
    call.status = (
        "ok"
        if data.get("stage") == "completed" and not data.get("error")
        else str(data.get("error") or data.get("stage"))
    )
    duration = data.get("duration_ms")
    call.ms = float(duration) if isinstance(duration, int | float) else None
    call.digest = str(data.get("result_digest", ""))


async def compare(
    picked: Picked,
    reads: dict[str, ToolSpec],
    candidate: Sends,
    present: Asks | None,
    *,
    at_once: int,
    ignored: Collection[str] = VOLATILE,
) -> list[Compared]:
    """Send every call, ``at_once`` at a time, and compare."""
    gate = asyncio.Semaphore(at_once)

    async def one(call: Recorded) -> Compared:
        async with gate:
            answer = await candidate.call(reads[call.tool], call.actor, call.arguments, call.roles)
            now = None
            if not _same_bytes(call, answer) and present is not None:
                now = await present.call(call.tool, call.arguments)
            return _verdict(call, answer, now, ignored)

    tasks = [asyncio.create_task(one(call)) for call in picked.calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _same_bytes(call: Recorded, answer: Answer) -> bool:
    """Whether the candidate's result is the recorded one, byte for byte, as a worker writes it."""
    return answer.status == "ok" and hashlib.sha256(orjson.dumps(answer.body)).hexdigest() == call.digest


def _verdict(call: Recorded, answer: Answer, now: Answer | None, ignored: Collection[str]) -> Compared:
    made = Compared(call.call, call.tool, "same", call.status, answer.status, call.ms, answer.ms)
    if _same_bytes(call, answer):
        return made
    if now is None:
        if answer.status != call.status:
            made.verdict, made.differences = "different", [Difference("outcome", call.status, answer.status)]
        elif answer.status == "ok":
            made.verdict = "not comparable"
        return made
    if now.status != answer.status:
        made.verdict, made.differences = "different", [Difference("outcome", now.status, answer.status)]
    elif answer.status in ("ok", "tool_error"):
        made.differences = differences(result_of(now.body), result_of(answer.body), ignored)[:SHOWN_MAX]
        made.verdict = "different" if made.differences else "same"
    return made


@dataclass
class Line:
    """A tool's sum."""

    tool: str
    calls: int
    same: int
    different: int
    not_comparable: int
    recorded_ms_p50: float | None
    candidate_ms_p50: float
    candidate_ms_p95: float


def by_tool(found: list[Compared]) -> list[Line]:
    """One line for each tool, the most different first."""
    lines = []
    for tool in sorted({item.tool for item in found}):
        mine = [item for item in found if item.tool == tool]
        verdicts = Counter(item.verdict for item in mine)
        ms = sorted(item.candidate_ms for item in mine)
        before = [item.recorded_ms for item in mine if item.recorded_ms is not None]
        lines.append(
            Line(
                tool,
                len(mine),
                verdicts["same"],
                verdicts["different"],
                verdicts["not comparable"],
                statistics.median(before) if before else None,
                statistics.median(ms),
                ms[min(len(ms) - 1, int(len(ms) * 0.95))],
            )
        )
    return sorted(lines, key=lambda line: (-line.different, line.tool))
