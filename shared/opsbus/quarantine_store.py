"""The bucket QUARANTINE as the keeper changes it; every change is in the record.

A quarantine is in force before it is recorded, and recorded before it is lifted: a record that cannot be written
never lets anybody in.
"""

import time

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus.bucket_keys import bucket_keys
from opsbus.platform_audit import PlatformAudit
from opsbus_contracts.access import Quarantine, QuarantineKind, quarantine_key
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.streams import QUARANTINE


class QuarantineError(Exception):
    """What was asked for cannot be done; one line, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class QuarantineStore:
    """Quarantines. ``js``: of the identity ``keeper``. ``by``: who acts, for the record."""

    def __init__(self, js: JetStreamContext, audit: PlatformAudit, by: str) -> None:
        self._js = js
        self._audit = audit
        self._by = by

    async def add(self, kind: QuarantineKind, target: str, reason: str, for_s: float | None) -> Quarantine:
        """Shut something out; one that is out already gets the new reason and end.

        Args:
            for_s: How long. Seconds; None: until it is lifted.

        Raises:
            QuarantineError: a field is wrong.
            opsbus.platform_audit.NotRecordedError: it is in force, and not recorded.
        """
        now_ms = int(time.time() * 1000)
        try:
            made = Quarantine(
                kind=kind,
                target=target,
                reason=reason,
                by=self._by,
                since_ms=now_ms,
                expires_ms=now_ms + int(for_s * 1000) if for_s is not None else 0,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise QuarantineError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        await (await self._open()).put(quarantine_key(kind, target), made.model_dump_json().encode())
        await self._record("begun", made, reason)
        return made

    async def lift(self, kind: QuarantineKind, target: str, reason: str) -> Quarantine:
        """Let something in again.

        Raises:
            QuarantineError: it is not shut out.
            opsbus.platform_audit.NotRecordedError: nothing was changed.
        """
        bucket = await self._open()
        key = quarantine_key(kind, target)
        try:
            held = Quarantine.model_validate_json((await bucket.get(key)).value or b"")
        except KeyNotFoundError:
            raise QuarantineError(
                f"no {kind.value} {target!r} is quarantined", "'opsbus quarantine list' shows what is"
            ) from None
        except ValidationError:
            held = Quarantine(kind=kind, target=target, reason="(the record was damaged)", since_ms=0)
        await self._record("lifted", held, reason)
        await bucket.delete(key)
        return held

    async def all(self) -> list[Quarantine]:
        """All that are there, those that have expired too."""
        bucket = await self._open()
        found = []
        for key in await bucket_keys(self._js, QUARANTINE.name):
            try:
                found.append(Quarantine.model_validate_json((await bucket.get(key)).value or b""))
            except (KeyNotFoundError, ValidationError):
                continue  # gone meanwhile, or damaged: 'opsbus doctor' tells
        return sorted(found, key=lambda one: one.since_ms)

    async def _record(self, change: str, one: Quarantine, reason: str) -> None:
        await self._audit.record(
            PlatformStage.QUARANTINE_CHANGED,
            actor=self._by,
            target=f"{one.kind.value}/{one.target}",
            reason=reason,
            details={"change": change, "expires_ms": one.expires_ms},
        )

    async def _open(self) -> KeyValue:
        return await self._js.key_value(QUARANTINE.name)
