"""Requests that were refused for want of an identity, as events of the record: the first of a kind at once, the rest of
a minute as one event with their number, so that whoever guesses fills no stream. Refusals of calls: record.py.
"""

import asyncio
import time
from dataclasses import dataclass

from nats.aio.client import Client

from opsbus import logs, tasks
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_contracts.audit import PlatformStage
from opsbus_edge.model import Denied, Peer

log = logs.get("edge")

EVERY_S = 60.0
TICK_S = 0.5
KINDS_MAX = 1_000
"""Addresses and reasons told apart at once; what is beyond them is counted together."""
_OTHERS = ("", "refusals of further addresses")
_STOP_S = 3.0


@dataclass(slots=True)
class _Count:
    times: int = 0
    written: float | None = None


class Refusals:
    """Refused requests, by address and reason.

    Args:
        nc: The edge's connection.
        names: Whether the record may have the address in the clear (``audit_personal: clear``).
    """

    def __init__(self, nc: Client, *, names: bool) -> None:
        self._audit = PlatformAudit(nc.jetstream(timeout=2.0), "edge")
        self._names = names
        self._counts: dict[tuple[str, str], _Count] = {}
        self._task: asyncio.Task[None] | None = None

    def tell(self, denied: Denied, peer: Peer) -> None:
        """A request was refused. Costs a look-up."""
        kind = (peer.address if self._names else "", denied.error.message)
        if kind not in self._counts and len(self._counts) >= KINDS_MAX:
            kind = _OTHERS
        self._counts.setdefault(kind, _Count()).times += 1

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def stop(self) -> None:
        """Write what is left, and end."""
        await tasks.end(self._task)
        try:
            async with asyncio.timeout(_STOP_S):
                await self._write(everything=True)
        except (NotRecordedError, TimeoutError) as error:
            log.warning("refused requests are not in the record", error=str(error) or type(error).__name__)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._write()
            except NotRecordedError as error:
                log.warning("refused requests are not in the record yet", error=str(error))

    async def _write(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        for kind, count in list(self._counts.items()):
            if not everything and count.written is not None and now - count.written < EVERY_S:
                continue
            if not count.times:
                del self._counts[kind]  # quiet for a minute
                continue
            address, reason = kind
            times, count.times = count.times, 0
            try:
                await self._audit.record(
                    PlatformStage.SIGN_IN_FAILED,
                    actor="",
                    target="edge",
                    reason=reason,
                    address=address,
                    details={"times": times},
                )
            except BaseException:
                count.times += times
                raise
            count.written = now
