"""Which alerts fire, as ``event.monitoring.alert_firing`` and ``alert_resolved`` tell: the last word about each.

The monitoring worker tells them, and reads here what was told before; others read what fires without asking it.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from opsbus import logs
from opsbus.event_reader import EventReader, Seen
from opsbus_contracts.streams import ALERT_FIRING, ALERT_RESOLVED, reader

log = logs.get("bus")

KNOWN_MAX = 50_000
RESOLVED_KEPT_S = 600.0
"""An alert that is over is remembered for so long. Seconds."""


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """What was told of an alert last."""

    sequence: int
    firing: bool
    at: float
    """When it was told. Unix seconds."""
    starts_at: str
    data: dict[str, Any]


class AlertsTold:
    """By fingerprint; the word that lies later in the stream counts, in whatever order the two kinds are read."""

    def __init__(self) -> None:
        self._known: dict[str, ToldAlert] = {}
        self._full = False

    def __len__(self) -> int:
        return len(self._known)

    def get(self, fingerprint: str) -> ToldAlert | None:
        """What was told of it last; None: nothing, or it has been over for long."""
        return self._known.get(fingerprint)

    def firing(self) -> dict[str, ToldAlert]:
        """Those that fire."""
        return {key: told for key, told in self._known.items() if told.firing}

    def apply(self, firing: bool, seen: Seen) -> None:
        """An event of either kind."""
        data = seen.event.data
        fingerprint, starts_at = data.get("fingerprint"), data.get("starts_at")
        if not isinstance(fingerprint, str) or not isinstance(starts_at, str):
            return
        self.keep(fingerprint, ToldAlert(seen.sequence, firing, seen.event.time.timestamp(), starts_at, data))

    def keep(self, fingerprint: str, told: ToldAlert) -> None:
        """Keep a word, unless a later one is known."""
        known = self._known.get(fingerprint)
        if known is not None and known.sequence >= told.sequence:
            return
        if known is None and len(self._known) >= KNOWN_MAX:
            if not self._full:
                log.warning("more alerts are told than are kept", kept=KNOWN_MAX)
            self._full = True
            return
        self._known[fingerprint] = told

    def forget(self, firing: bool) -> None:
        """The stream is another one: what this kind told counts no more."""
        self._known = {key: told for key, told in self._known.items() if told.firing is not firing}

    def let_go(self, now: float) -> None:
        """Drop what has been over for long. Only when both kinds were read whole: else what ended would fire again."""
        old = [key for key, told in self._known.items() if not told.firing and now - told.at > RESOLVED_KEPT_S]
        for key in old:
            del self._known[key]
        self._full = self._full and not old


class AlertsReader:
    """The alerts as a service reads them, kept current while it runs."""

    def __init__(self, nc: Client, service: str) -> None:
        self.told = AlertsTold()
        self._readers = tuple(
            EventReader(nc, reader(service, subject), _apply(self.told, firing), forget=_forget(self.told, firing))
            for subject, firing in ((ALERT_FIRING, True), (ALERT_RESOLVED, False))
        )

    @property
    def current(self) -> bool:
        """Whether every word the stream holds is known."""
        return all(one.current for one in self._readers)

    async def start(self) -> None:
        """Begin to read."""
        for one in self._readers:
            await one.start()

    async def ready(self, within_s: float) -> bool:
        """Whether every word the stream holds is known; waits for it."""
        ends = time.monotonic() + within_s
        for one in self._readers:
            if not await one.ready(max(0.0, ends - time.monotonic())):
                return False
        return True

    async def stop(self) -> None:
        """End it."""
        for one in self._readers:
            await one.stop()

    def firing(self) -> dict[str, ToldAlert]:
        """Those that fire. Also lets go of what is over."""
        if self.current:
            self.told.let_go(datetime.now(UTC).timestamp())
        return self.told.firing()


def _apply(told: AlertsTold, firing: bool) -> Any:
    return lambda seen: told.apply(firing, seen)


def _forget(told: AlertsTold, firing: bool) -> Any:
    return lambda: told.forget(firing)
