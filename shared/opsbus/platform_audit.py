"""Audit events about the platform itself: a key was changed, something was shut out, the log was read.

What happens to calls is recorded by the edge and by events.py. Reading the record is the audit worker's matter.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from nats import errors
from nats.js import JetStreamContext
from nats.js import errors as js_errors

from opsbus.events import publish, source
from opsbus_contracts.audit import AuditEvent, AuditRecord, PlatformStage
from opsbus_contracts.subjects import audit_subject


class NotRecordedError(Exception):
    """The record did not acknowledge an event; one line."""


class PlatformAudit:
    """The platform's events of one process, numbered from 1 so that a gap is visible.

    Args:
        js: Of the identity; it may publish ``audit.<identity>.*``.
        identity: ``keeper``, ``provisioner``, ``auditor``, or a service's token.
        instance: Unique among the processes of the identity; made up when empty.
    """

    def __init__(self, js: JetStreamContext, identity: str, instance: str = "") -> None:
        self._js = js
        self._identity = identity
        self.instance = instance or f"{identity}-{secrets.token_hex(4)}"
        self._seq = 0
        self._unused: list[int] = []
        """Numbers of events that were not stored: they are given out again, for a gap says that an event is missing."""

    async def record(
        self,
        stage: PlatformStage,
        *,
        actor: str,
        target: str = "",
        reason: str = "",
        details: dict[str, Any] | None = None,
        **more: Any,
    ) -> AuditEvent:
        """Stores an event and returns it once the stream has acknowledged.

        Args:
            stage: What happened.
            actor: Who did it.
            target: What was acted on.
            details: Facts for a program, by name; never a secret.
            more: Further fields of AuditRecord.

        Raises:
            NotRecordedError: it is not known to be stored.
        """
        call = more.pop("call", "") or secrets.token_hex(16)
        fields = {"actor": actor, "target": target, "reason": reason, "details": details, "method": "platform"}
        return await self.step(AuditRecord(stage=stage, call=call, **fields, **more), subject=target)

    async def step(self, data: AuditRecord, subject: str = "") -> AuditEvent:
        """Stores an event of a call; its number is put in.

        Raises:
            NotRecordedError: it is not known to be stored.
        """
        number = self._next()
        stage = str(data.stage)
        event = AuditEvent(
            id=f"{self.instance}-{number}-{secrets.token_hex(8)}",
            source=source(self._identity, self.instance),
            type=f"opsbus.audit.v1.{stage}",
            subject=subject or data.tool or None,
            time=datetime.now(UTC),
            data=data.model_copy(update={"seq": number}),
        )
        try:
            await store_event(self._js, self._identity, event)
        except NotRecordedError:
            self._unused.append(number)
            raise
        return event

    def _next(self) -> int:
        if self._unused:
            return self._unused.pop()
        self._seq += 1
        return self._seq


def platform_event(
    identity: str, instance: str, seq: int, stage: PlatformStage, /, *, actor: str, **fields: Any
) -> AuditEvent:
    """An event that is yet to be stored. For whoever has to keep it until it is; all others: ``PlatformAudit``.

    Args:
        seq: Its number at the instance, from 1.
        fields: Of AuditRecord.
    """
    fields.setdefault("call", secrets.token_hex(16))
    data = AuditRecord(stage=stage, seq=seq, actor=actor, method="platform", **fields)
    return AuditEvent(
        # Not to be foreseen: whoever stored an event under the next id first would have this one dropped as a copy.
        id=f"{instance}-{seq}-{secrets.token_hex(8)}",
        source=source(identity, instance),
        type=f"opsbus.audit.v1.{stage.value}",
        subject=data.target or None,
        time=datetime.now(UTC),
        data=data,
    )


async def store_event(js: JetStreamContext, identity: str, event: AuditEvent) -> None:
    """Store an event; a repeat within the stream's window for duplicates is harmless.

    Raises:
        NotRecordedError: it is not known to be stored.
    """
    stage = str(event.data.stage)
    try:
        await publish(js, audit_subject(identity, stage), event, event.id)
    except (errors.Error, js_errors.Error, TimeoutError, OSError) as error:
        raise NotRecordedError(f"the record did not take the event {stage} ({type(error).__name__})") from None


async def record_once(
    js: JetStreamContext, identity: str, stage: PlatformStage, *, actor: str, **fields: Any
) -> AuditEvent:
    """``PlatformAudit.record`` for a process that records one event and ends.

    Raises:
        NotRecordedError: it is not known to be stored.
    """
    return await PlatformAudit(js, identity).record(stage, actor=actor, **fields)
