"""Who and what is shut out right now: the bucket QUARANTINE, followed. Edge and workers refuse by it.

Writing it is the keeper's: quarantine_store.py.
"""

import time
from collections.abc import Callable

from nats.aio.client import Client
from pydantic import ValidationError

from opsbus import logs
from opsbus.bucket_watch import BucketWatch
from opsbus_contracts.access import Quarantine, QuarantineKind, quarantine_key
from opsbus_contracts.streams import QUARANTINE

log = logs.get("bus")

HELD_MAX = 100_000

Changed = Callable[[Quarantine], None]


class Quarantines:
    """The quarantines in force. ``begun``: told of each as it begins, also of those there at the start."""

    def __init__(self, nc: Client, begun: Changed | None = None) -> None:
        self._begun = begun
        self._held: dict[str, Quarantine] = {}
        self.watch = BucketWatch(nc, QUARANTINE.name, self._apply, lambda: list(self._held))

    def find(self, *targets: tuple[QuarantineKind, str]) -> Quarantine | None:
        """The first of the targets' quarantines that is in force."""
        if not self._held:
            return None
        for kind, target in targets:
            found = self._held.get(quarantine_key(kind, target)) if target else None
            if found is not None and is_in_force(found):
                return found
        return None

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return bool(self._held)

    def in_force(self) -> list[Quarantine]:
        """All of them."""
        return [one for one in self._held.values() if is_in_force(one)]

    def _apply(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._held.pop(key, None)
            return
        try:
            found = Quarantine.model_validate_json(value)
        except ValidationError as error:
            # What was in force before stays so: a damaged record must not let anybody out.
            log.error("a quarantine's record is damaged", key=key[:80], problems=error.error_count())
            return
        if key != quarantine_key(found.kind, found.target) or (key not in self._held and len(self._held) >= HELD_MAX):
            log.error("a quarantine's record is not taken", key=key[:80], held=len(self._held))
            return
        self._held[key] = found
        if self._begun is not None and is_in_force(found):
            self._begun(found)


def is_in_force(quarantine: Quarantine) -> bool:
    """Whether it has not expired."""
    return not quarantine.expires_ms or quarantine.expires_ms > time.time() * 1000


def told(quarantine: Quarantine) -> str:
    """``the tool k8s_drain_node is quarantined: reason``."""
    what = {"key": "API key", "worker": "worker instance"}.get(quarantine.kind.value, quarantine.kind.value)
    return f"the {what} {quarantine.target} is quarantined: {quarantine.reason}"
