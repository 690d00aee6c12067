"""The one way through: every request of every face passes these gates in this order.

authenticate (the faces, by Edge.authenticate) -> find target -> authorize -> limit -> audit: requested -> dispatch ->
audit: how it ended -> answer (the faces).
"""

import asyncio
import time

from opsbus import logs
from opsbus_contracts.calls import BODY_BYTES_MAX, Status
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_edge.audit import AuditLog
from opsbus_edge.catalog import Catalog, ResourceEntry, ToolEntry
from opsbus_edge.dispatch import Dispatcher, Order
from opsbus_edge.dispatch.order import Target, body_of, headers_of, subject_of, timeout_of
from opsbus_edge.gates.authorize import authorize
from opsbus_edge.gates.find import find
from opsbus_edge.gates.limit import ConcurrencyLimit
from opsbus_edge.gates.load import ServiceLoad
from opsbus_edge.gates.personal import PersonalData
from opsbus_edge.gates.policy import Approval, Policy
from opsbus_edge.gates.rates import RateLimits
from opsbus_edge.gates.record import Record
from opsbus_edge.gates.shut_out import ShutOut
from opsbus_edge.identity import Minter
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import OnMessage, Reply, Request, error_body, error_reply
from opsbus_edge.redact import Redactor
from opsbus_edge.tracing import Tracing

log = logs.get("edge")


class Pipeline:
    """The gates behind authentication, in order."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        policy: Policy,
        limit: ConcurrencyLimit,
        rates: RateLimits,
        shut_out: ShutOut,
        load: ServiceLoad,
        audit: AuditLog,
        redactor: Redactor | None,
        personal: PersonalData,
        dispatcher: Dispatcher,
        minter: Minter,
        metrics: Metrics,
        tracing: Tracing,
        call_timeout_max_s: float,
        arguments_bytes_max: int,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._limit = limit
        self._rates = rates
        self._shut_out = shut_out
        self._load = load
        self._audit = audit
        self._redactor = redactor
        self._personal = personal
        self._dispatcher = dispatcher
        self._minter = minter
        self._metrics = metrics
        self._tracing = tracing
        self._call_timeout_max_s = call_timeout_max_s
        self._arguments_bytes_max = arguments_bytes_max
        self.under_way = 0
        """Requests between the first gate and the answer."""

    async def run(self, request: Request, on_message: OnMessage | None = None) -> Reply:
        """Carry a request through the gates to a worker and back.

        Never raises but CancelledError: the caller went away; the worker is told and ``cancelled`` is recorded.
        """
        started = time.perf_counter()
        target: Target | None = None
        status = "cancelled"
        self.under_way += 1
        try:
            with self._tracing.span(request) as span:
                found = find(self._catalog, request)
                target = None if isinstance(found, ErrorBody) else found
                reply = await self._guarded(request, found, on_message)
                status = reply.error_code or reply.status.value
                span.ended(status)
            return reply
        finally:
            self.under_way -= 1
            self._count(request, target, status, time.perf_counter() - started)

    async def refused(self, request: Request, error: ErrorBody) -> None:
        """Record a request that a face refused: it has been answered, and never was a call."""
        cover, _ = await self._personal.of(request.caller)
        Record(self._audit, self._redactor, request, cover).denied(error)
        self._metrics.error(error.code.value)

    async def lost(self, request: Request, error: ErrorBody, ago_s: float) -> None:
        """Record how a call ended that another edge did not live to tell of.

        Args:
            ago_s: When it began.
        """
        cover, _ = await self._personal.of(request.caller)
        record = Record(self._audit, self._redactor, request, cover, ago_s=ago_s)
        found = find(self._catalog, request)
        if not isinstance(found, ErrorBody):
            record.found(found)
        record.lost(error, known=not isinstance(found, ErrorBody))
        self._metrics.error(error.code.value)

    async def _guarded(self, request: Request, found: Target | ErrorBody, on_message: OnMessage | None) -> Reply:
        cover, error = await self._personal.of(request.caller)
        record = Record(self._audit, self._redactor, request, cover)
        if error is not None:
            return self._refused(record, error, None)
        if isinstance(found, ErrorBody):
            return self._refused(record, found, None)
        record.found(found)
        error = self._shut_out.call(request, found)
        if error is not None:
            return self._refused(record, error, found)
        if len(request.params) > self._arguments_bytes_max:
            return self._refused(record, _arguments_too_large(self._arguments_bytes_max), found)
        error, rule, approval = authorize(self._policy, request, found)
        record.decided(rule, self._policy.digest)
        if error is None:
            error = await self._rates.enter(request.caller, found)
        if error is None:
            error = self._limit.enter(request.caller)
        if error is not None:
            return self._refused(record, error, found)
        try:
            error = self._load.enter(found.service, request.caller.sub)
            if error is not None:
                return self._refused(record, error, found)
            try:
                return await self._dispatched(record, request, found, approval, on_message)
            finally:
                self._load.leave(found.service, request.caller.sub)
        finally:
            self._limit.leave(request.caller)

    async def _dispatched(
        self, record: Record, request: Request, target: Target, approval: Approval, on_message: OnMessage | None
    ) -> Reply:
        order = self._order(request, target, approval, record.name)
        if len(order.body) > BODY_BYTES_MAX:
            return self._refused(record, _too_large(len(order.body)), target)
        dispatched = False
        running = self._shut_out.enter(request, target)
        try:
            error = await record.requested(order.deadline_ms)
            if error is not None:
                return self._refused(record, error, target)
            dispatched = True
            reply = await self._dispatcher.call(order, on_message)
        except asyncio.CancelledError:
            if running.ended is None or running.task is None or running.task.uncancel():
                record.cancelled(dispatched)
                raise
            reply = error_reply(self._shut_out.cut_short(running, dispatched))
        except Exception as bug:
            log.exception("the pipeline failed", bug, call=request.call, method=request.method)
            reply = error_reply(_internal(request.call, dispatched))
        finally:
            self._shut_out.leave(running)
        record.ended(reply, target)
        return reply

    def _order(self, request: Request, target: Target, approval: Approval, record_as: str) -> Order:
        timeout_s = timeout_of(request, target, self._call_timeout_max_s)
        deadline_ms = int((time.time() + timeout_s) * 1000)
        identity = self._minter.token(
            request.caller, target.service, request.client.name, record_as, target.spec.permission
        )
        tool = target if isinstance(target, ToolEntry) else None
        return Order(
            call=request.call,
            service=target.service,
            subject=subject_of(request, target),
            body=body_of(request, target),
            headers=headers_of(request, identity, deadline_ms, approval.value, self._policy.digest),
            deadline_ms=deadline_ms,
            timeout_s=timeout_s,
            mutating=tool is not None and tool.mutating,
            repeatable=tool is None or tool.repeatable,
            instances=len(target.instances),
        )

    def _refused(self, record: Record, error: ErrorBody, target: Target | None) -> Reply:
        reply = error_reply(error)
        record.ended(reply, target)
        return reply

    def _count(self, request: Request, target: Target | None, status: str, seconds: float) -> None:
        self._metrics.request(request.method, status, seconds)
        if request.method == "tools/call":
            self._metrics.tool_call(target.name if isinstance(target, ToolEntry) else "unknown", status, seconds)
        elif request.method == "resources/read":
            self._metrics.resource(target.service if isinstance(target, ResourceEntry) else "unknown", status)
        if status not in (Status.OK.value, Status.INPUT_REQUIRED.value):
            self._metrics.error(status)


def _arguments_too_large(bytes_max: int) -> ErrorBody:
    return error_body(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the arguments have more than {bytes_max} bytes",
        hint="Send less, or a reference to it.",
    )


def _too_large(size: int) -> ErrorBody:
    return error_body(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the request has {size} bytes, {BODY_BYTES_MAX} are allowed",
        hint="Send less, or a reference to it.",
    )


def _internal(call: str, dispatched: bool) -> ErrorBody:
    return error_body(
        ErrorCode.INTERNAL,
        "the edge failed inside",
        hint=f"Its operators find the cause in its log under call {call}.",
        executed=Executed.UNKNOWN if dispatched else Executed.NO,
        details={"call": call},
    )
