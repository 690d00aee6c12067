"""What a dead process's exit code and last words mean, and what to do about it."""

import signal
from collections.abc import Sequence

from opsbus.up.model import Spec

_KNOWN: tuple[tuple[str, str], ...] = (
    ("address already in use", "another program has the port; stop it or choose another one with --port"),
    ("no space left on device", "the disk is full: make room, then start again"),
    ("modulenotfounderror", "the installation is incomplete: 'make clean' and 'make up' again install it anew"),
    ("authorization violation", "the bus does not know this key: with an own NATS_URL, load .opsbus/nats.conf there"),
    ("permission denied", "a file or folder belongs to somebody else: see the line above"),
)


def advice(code: int, log_lines: Sequence[str], spec: Spec) -> tuple[str, str]:
    """What happened in a few words, and a hint; the first known cause in the log wins.

    Args:
        code: exit code; negative for a signal.
        log_lines: the last lines of its log.
        spec: whose end it was.
    """
    what = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    text = "\n".join(log_lines).lower()
    for sign, hint in _KNOWN:
        if sign in text:
            return what, hint
    if code == 2:
        return what, "a setting is wrong: the last line above names it"
    if code == -signal.SIGKILL:
        return what, "somebody killed it; when nobody did, the machine ran out of memory"
    return what, f"its whole log: {spec.log}"
