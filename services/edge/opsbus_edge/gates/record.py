"""The gate that keeps the record: what is written about a call, before and after. Storing it: opsbus_edge/audit/."""

import hashlib
import time
from contextvars import ContextVar
from typing import Any

import orjson

from opsbus_contracts.audit import Stage
from opsbus_contracts.calls import TOOL_ERROR, Status
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_edge.audit import AuditLog
from opsbus_edge.catalog import ToolEntry
from opsbus_edge.dispatch.order import Target
from opsbus_edge.gates.personal import Cover
from opsbus_edge.model import Reply, Request, error_body
from opsbus_edge.redact import Redactor

_DENIED = frozenset(
    {
        ErrorCode.FORBIDDEN.value,
        ErrorCode.UNAUTHENTICATED.value,
        ErrorCode.QUARANTINED.value,
        ErrorCode.REQUEST_TOO_LARGE.value,
        ErrorCode.UNKNOWN_TOOL.value,
        ErrorCode.UNKNOWN_RESOURCE.value,
        ErrorCode.UNKNOWN_PROMPT.value,
        ErrorCode.UNKNOWN_METHOD.value,
    }
)

RECORDED: ContextVar[list[bool] | None] = ContextVar("recorded", default=None)
"""Of an HTTP request: gets an element when the request has a Record, and so is in the record whatever comes of it."""


class Record:
    """What is written about one call."""

    def __init__(
        self,
        log: AuditLog,
        redactor: Redactor | None,
        request: Request,
        cover: Cover | None = None,
        *,
        ago_s: float = 0.0,
    ) -> None:
        self._log = log
        self._redactor = redactor
        self._cover = cover
        self._request = request
        self._mutating = False
        self._started = time.perf_counter() - ago_s
        self._base = _base(request)
        seen = RECORDED.get()
        if seen is not None:
            seen.append(True)

    def found(self, target: Target) -> None:
        """The target is known: its service and nature go into all that follows."""
        self._mutating = isinstance(target, ToolEntry) and target.mutating
        self._base["service"] = target.service
        if self._mutating:
            self._base["mutating"] = True

    @property
    def name(self) -> str:
        """The caller's, where the record has a pseudonym; else nothing."""
        return self._cover.name if self._cover is not None else ""

    def decided(self, rule: str, policy: str) -> None:
        """The policy and its line go into all that follows."""
        self._base["rule"], self._base["policy"] = rule, policy

    async def requested(self, deadline_ms: int) -> ErrorBody | None:
        """Record that the call is about to be dispatched; for what may change something, wait until it is stored.

        Returns:
            The error with which the call must be refused, when the record cannot take it.
        """
        if not self._log.accepting:
            return _refusal("the record of earlier calls is not stored yet")
        record = self._base | self._asked() | {"deadline_ms": deadline_ms}
        traceparent = self._request.traceparent
        if not self._mutating:
            self._write(Stage.REQUESTED, record)
            return None
        if await self._log.store(Stage.REQUESTED, self._covered(Stage.REQUESTED, record), traceparent):
            return None
        return _refusal("the record did not take the event of this call")

    def denied(self, error: ErrorBody) -> None:
        """Record that the request was refused before it became a call."""
        record = self._base | {"executed": Executed.NO.value, "error": error.code.value, "message": error.message}
        self._write(Stage.DENIED, record)

    def ended(self, reply: Reply, target: Target | None) -> None:
        """Record how the call ended."""
        record = self._base | {
            "version": target.version if target is not None else "",
            "instance": reply.instance,
            "executed": reply.executed.value,
            "attempts": reply.attempts,
            "duration_ms": self._duration_ms(),
            "result_bytes": len(reply.body),
            "replayed": reply.replayed or None,
            "approver": reply.approver,
        }
        if reply.status is Status.ERROR:
            record |= {"error": reply.error_code, "message": self._sentence(reply.body)}
            if target is None or reply.error_code in _DENIED:
                record |= self._asked()
        else:
            record["result_digest"] = hashlib.sha256(reply.body).hexdigest()
            if reply.status is Status.INPUT_REQUIRED:
                record["message"] = self._question(reply.body)
            if reply.error_code:
                record["error"] = reply.error_code
        self._write(_stage(reply, self._mutating), record)

    def cancelled(self, dispatched: bool) -> None:
        """Record that the caller went away."""
        executed = Executed.UNKNOWN if dispatched else Executed.NO
        record = self._base | {"executed": executed.value, "error": "cancelled", "duration_ms": self._duration_ms()}
        self._write(Stage.CANCELLED, record)

    def lost(self, error: ErrorBody, *, known: bool) -> None:
        """Record, for an edge that died, that nobody knows how the call ended.

        Args:
            known: Whether the tool still is; of one that is not it is not known either that it only reads.
        """
        record = self._base | {
            "executed": error.executed.value,
            "error": error.code.value,
            "message": error.message,
            "duration_ms": self._duration_ms(),
        }
        self._write(Stage.FAILED if known and not self._mutating else Stage.UNKNOWN, record)

    def _write(self, stage: Stage, record: dict[str, Any]) -> None:
        self._log.write(stage, self._covered(stage, record), self._request.traceparent)

    def _covered(self, stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
        return record if self._cover is None else self._cover(stage, record)

    def _asked(self) -> dict[str, Any]:
        """What was asked for, as far as it may be kept."""
        request = self._request
        fields: dict[str, Any] = {"request_bytes": len(request.params), "idempotency_key": request.idempotency_key}
        if self._redactor is None or not request.params.startswith(b"{"):
            return fields | {"arguments_digest": hashlib.sha256(request.params).hexdigest()}
        kept, digest = self._redactor.arguments(request.params, request.target)
        fields |= {"arguments": kept or None, "arguments_digest": digest}
        for name in ("reason", "change_id", "idempotency_key"):
            if isinstance(text := kept.get(name), str):
                fields[name] = text[:1_000]
        return fields

    def _sentence(self, body: bytes) -> str:
        message = orjson.loads(body).get("message", "")
        return self._told(message, 500) if isinstance(message, str) else ""

    def _question(self, body: bytes) -> str:
        """What is asked, which for a write is its plan: it tells the arguments, so nothing where they are not kept."""
        if self._redactor is None:
            return ""
        try:
            asked = orjson.loads(body)["inputRequests"].values()
            return self._told(
                "\n".join(str(one["params"]["message"]) for one in asked if "message" in one["params"]), 4_000
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""

    def _told(self, text: str, most: int) -> str:
        return self._redactor.sentence(text[:most]) if self._redactor is not None else text[:most]

    def _duration_ms(self) -> float:
        return round((time.perf_counter() - self._started) * 1000, 3)


def _base(request: Request) -> dict[str, Any]:
    caller, client, trace = request.caller, request.client, request.traceparent
    return {
        "call": request.call,
        "actor": caller.sub,
        "roles": list(caller.roles),
        "auth": caller.auth,
        "client": f"{client.name} {client.version}".strip()[:200],
        "protocol": "stdio" if request.transport == "stdio" else request.protocol,
        "method": request.method,
        "tool": request.target[:2048],
        "address": request.address,
        "session": request.session,
        "trace_id": trace.split("-")[1] if trace and trace.count("-") >= 3 else "",
    }


def _stage(reply: Reply, mutating: bool) -> Stage:
    if reply.status is Status.INPUT_REQUIRED:
        return Stage.INPUT_REQUIRED
    if reply.status is Status.OK:
        return Stage.FAILED if reply.error_code == TOOL_ERROR else Stage.COMPLETED
    if reply.error_code in _DENIED and reply.executed is Executed.NO:
        return Stage.DENIED
    if reply.error_code == ErrorCode.RATE_LIMITED.value:
        return Stage.LIMITED
    if reply.error_code == ErrorCode.CANCELLED.value:
        return Stage.CANCELLED
    return Stage.UNKNOWN if mutating and reply.executed is Executed.UNKNOWN else Stage.FAILED


def _refusal(why: str) -> ErrorBody:
    return error_body(
        ErrorCode.AUDIT_UNAVAILABLE,
        f"{why}; the call was not carried out",
        hint="Try again in a few seconds; the platform's operators see it at /ready.",
        retry_after_ms=2_000,
    )
