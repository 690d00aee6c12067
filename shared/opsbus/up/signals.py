"""Ctrl-C and its kin: the first asks the platform to drain, the second ends it at once."""

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType


def _stopping() -> tuple[signal.Signals, ...]:
    """Those that stop; a closed terminal does not when ``nohup`` said so."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM) if ignored else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, signals set ``stop``; the second one calls ``at_once``."""

    def __init__(self, at_once: Callable[[], None]) -> None:
        self.stop = asyncio.Event()
        self.twice = False
        self._handled = _stopping()
        self._at_once = at_once

    def __enter__(self) -> "Signals":
        loop = asyncio.get_running_loop()
        for number in self._handled:
            loop.add_signal_handler(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in self._handled:
            loop.remove_signal_handler(number)

    def _received(self) -> None:
        if self.stop.is_set():
            self.twice = True
            self._at_once()
        self.stop.set()
