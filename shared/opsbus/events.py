"""What a process tells the streams: domain events, and the audit events of refusals and approvals.

Reading them is the audit worker's matter.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nats import errors
from nats.js import JetStreamContext
from pydantic import BaseModel

from opsbus import tasks
from opsbus.logs import Log
from opsbus.toolerror import ToolError
from opsbus_contracts import AuditEvent, AuditRecord, Event, Executed, Header, Identity, Stage
from opsbus_contracts.names import mcp_name
from opsbus_contracts.subjects import audit_subject, event_subject

if TYPE_CHECKING:
    from opsbus.call import Call

PUBLISH_TIMEOUT_S = 2.0
PENDING_MAX = 1_000
"""Audit events that wait to be stored; more are counted as lost. Only refusals wait here."""

Lost = Callable[[str], None]


def source(service: str, instance: str) -> str:
    """``/opsbus/k8s/k8s-4f1c0a9b``."""
    return f"/opsbus/{service}/{instance}"


async def publish(js: JetStreamContext, subject: str, event: BaseModel, event_id: str) -> None:
    """Stores a CloudEvent and waits for the acknowledgement; its id makes a repeat harmless.

    Raises:
        nats.errors.Error, TimeoutError: not known to be stored.
    """
    body = event.model_dump_json(exclude_none=True).encode()
    headers = {Header.MSG_ID.value: event_id}
    await js.publish(subject, body, timeout=PUBLISH_TIMEOUT_S, headers=headers)


class Events:
    """Domain events of one instance."""

    def __init__(self, js: JetStreamContext, service: str, instance: str, log: Log, lost: Lost) -> None:
        self._js = js
        self._service = service
        self._source = source(service, instance)
        self._log = log
        self._lost = lost

    async def emit(
        self, kind: str, data: dict[str, Any], subject: str | None = None, call: "Call | None" = None
    ) -> None:
        """Stores ``event.<service>.<kind>``; a failure is logged and counted."""
        event = Event(
            id=secrets.token_hex(16),
            source=self._source,
            type=f"opsbus.event.v1.{kind}",
            subject=subject,
            time=datetime.now(UTC),
            traceparent=call.headers.get(Header.TRACEPARENT) if call else None,
            data=data,
        )
        try:
            await publish(self._js, event_subject(self._service, kind), event, event.id)
        except (errors.Error, TimeoutError) as error:
            self._lost("event")
            self._log.error("event_not_stored", kind=kind, error=type(error).__name__, call=call.id if call else "")


class Audit:
    """Audit events of one instance: what a worker itself decides. Refusals are stored in order, in the background."""

    def __init__(self, js: JetStreamContext, service: str, instance: str, version: str, log: Log, lost: Lost) -> None:
        self._js = js
        self._service = service
        self._instance = instance
        self._version = version
        self._log = log
        self._lost = lost
        self._seq = 0
        self._pending: asyncio.Queue[AuditEvent] = asyncio.Queue(PENDING_MAX)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to store."""
        self._task = asyncio.create_task(self._store())

    async def stop(self, timeout_s: float) -> None:
        """Stores what waits, within the time."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pending.join(), timeout_s)
        await tasks.end(self._task)
        for _ in range(self._pending.qsize()):
            self._lost("audit")

    def denied(self, call: "Call", error: ToolError) -> None:
        """A call was refused for who made it."""
        event = self._event(
            call,
            Stage.DENIED,
            executed=error.executed or Executed.NO,
            error=error.code,
            message=_unnamed(error.message, call.identity),
        )
        self._later(event)

    async def approved(self, call: "Call", details: dict[str, Any]) -> None:
        """A call was confirmed by its caller; returns when that is stored.

        Args:
            details: How, and what was confirmed.

        Raises:
            nats.errors.Error, TimeoutError: not known to be stored; it goes on being tried, since it has its number.
        """
        event = self._event(call, Stage.APPROVED, approver=_name(call.identity), details=details)
        try:
            await publish(self._js, audit_subject(self._service, Stage.APPROVED), event, event.id)
        except BaseException:
            self._later(event)
            raise

    def _later(self, event: AuditEvent) -> None:
        try:
            self._pending.put_nowait(event)
        except asyncio.QueueFull:
            self._lost("audit")

    def _event(self, call: "Call", stage: Stage, **more: Any) -> AuditEvent:
        self._seq += 1
        identity = call.identity
        label = call.label if call.label != "?" else call.msg.subject.rsplit(".", 1)[-1][:64]
        record = AuditRecord(
            stage=stage,
            call=call.id[:64],
            seq=self._seq,
            actor=_name(identity),
            roles=identity.roles if identity else [],
            auth=identity.auth if identity else "",
            client=identity.client if identity and not identity.record_as else "",
            method=_method(call.msg.subject),
            tool=_tool_name(self._service, label),
            service=self._service,
            version=self._version,
            instance=self._instance,
            mutating=call.mutating,
            request_bytes=len(call.msg.data),
            trace_id=call.trace_id,
            **more,
        )
        return AuditEvent(
            id=secrets.token_hex(16),
            source=source(self._service, self._instance),
            type=f"opsbus.audit.v1.{stage}",
            subject=record.tool,
            time=datetime.now(UTC),
            data=record,
        )

    async def _store(self) -> None:
        while True:
            event = await self._pending.get()
            try:
                await self._store_one(event)
            finally:
                self._pending.task_done()

    async def _store_one(self, event: AuditEvent) -> None:
        subject = audit_subject(self._service, event.data.stage)
        for attempt in range(4):
            try:
                await publish(self._js, subject, event, event.id)
                return
            except (errors.Error, TimeoutError) as error:
                self._log.warning("audit_not_stored", attempt=attempt + 1, error=type(error).__name__)
                await asyncio.sleep(0.5 * 2**attempt)
        self._lost("audit")


def _method(subject: str) -> str:
    kind, _, name = subject.split(".", 2)
    return "tools/call" if kind == "tool" else name.replace("_", "/", 1)


def _tool_name(service: str, label: str) -> str:
    try:
        return mcp_name(service, label)
    except ValueError:
        return label


def _name(identity: Identity | None) -> str:
    """As the record calls the caller."""
    return (identity.record_as or identity.sub) if identity else ""


def _unnamed(message: str, identity: Identity | None) -> str:
    return message.replace(identity.sub, identity.record_as) if identity and identity.record_as else message
