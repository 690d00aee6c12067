"""A call that a second person has to approve, where the policy says ``two_person``: the worker's side. Fail closed.

The call waits in the bucket APPROVALS under a key made of caller, tool and arguments, so that repeating it finds it:
at any edge, with any instance, also after a restart. What was decided stands in the bucket DECISIONS, which the
approvals worker alone may write. Deciding is that worker's matter.
"""

import secrets
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import BaseModel, Field, ValidationError

from opsbus.ask import Elicit
from opsbus.idempotency import arguments_digest
from opsbus.plan import Plan
from opsbus.toolerror import ToolError
from opsbus_contracts import ApprovalDecision, ApprovalRequest, ErrorCode, Executed
from opsbus_contracts.names import mcp_name
from opsbus_contracts.streams import APPROVALS, DECISIONS

if TYPE_CHECKING:
    from opsbus.context import Context

TWO_PERSON = "two_person"
"""In the header Opsbus-Approval."""
VALID_S = 3_600.0
"""From the request to the act. Seconds."""
_PLAN_MAX = 20_000
_QUESTION = "approval"
_CONFLICTS = (10071, 10164)
"""JetStream's error codes for another revision than the one expected."""


class GoOn(BaseModel):
    """The form of who waits."""

    proceed: bool = Field(description="Somebody has approved it; go on?")


class _Entry(NamedTuple):
    request: ApprovalRequest
    revision: int
    body: bytes


class SecondPerson:
    """The calls of one service that wait."""

    def __init__(self, js: JetStreamContext, service: str) -> None:
        self._js = js
        self._service = service
        self._requests: KeyValue | None = None
        self._decisions: KeyValue | None = None

    async def approved(self, context: "Context[Any]", plan: Plan, version: str | None) -> str:
        """Returns who approved this plan, spending the approval; ends the call here as long as nobody has.

        Raises:
            ToolError: ``confirmation_required`` while it waits; ``declined``; ``precondition_failed`` when it was
                approved as something else: another version of the object, plan or policy.
            opsbus.ask.InputRequired: it waits, and the client can ask its user.
        """
        wanted = self._wanted(context, plan, version)
        try:
            entry = await self._waiting(wanted)
            if entry is None:
                entry = await self._ask_for(wanted)
            await self._withdrawn(context, entry)
            decision = await self._decision(entry)
            if decision is not None:
                return await self._spend(entry, decision, wanted)
            if _differs(entry.request, wanted):
                entry = await self._ask_for(wanted, entry.revision)
            raise await self._still_waits(context, entry.request)
        except KeyWrongLastSequenceError:
            raise _spent() from None
        except errors.Error as error:
            if getattr(error, "err_code", None) in _CONFLICTS:
                raise _spent() from None
            raise _unavailable(error) from error
        except TimeoutError as error:
            raise _unavailable(error) from error

    def _wanted(self, context: "Context[Any]", plan: Plan, version: str | None) -> ApprovalRequest:
        caller, digest = context.identity, arguments_digest(context.arguments)
        tool = mcp_name(self._service, context.tool)
        now_ms = int(time.time() * 1000)
        return ApprovalRequest(
            service=self._service,
            id=sha256(orjson.dumps([caller.sub, tool, digest])).hexdigest()[:20],
            nonce=secrets.token_hex(16),
            tool=tool,
            call=context.call_id[:64],
            caller=caller.sub,
            recorded_as=caller.record_as,
            arguments_digest=digest,
            plan=plan.to_text()[:_PLAN_MAX],
            version=version or "",
            policy=context.policy,
            requested_ms=now_ms,
            expires_ms=now_ms + int(VALID_S * 1000),
        )

    async def _waiting(self, wanted: ApprovalRequest) -> _Entry | None:
        """What waits under the same caller, tool and arguments, and is not over."""
        found = await _get(await self._open_requests(), self._key(wanted))
        if found is None:
            return None
        body, revision = found
        try:
            request = ApprovalRequest.model_validate_json(body)
        except ValidationError:
            request = None
        if request is None or request.expires_ms < time.time() * 1000:
            await (await self._open_requests()).delete(self._key(wanted), last=revision)
            return None
        return _Entry(request, revision, body)

    async def _ask_for(self, wanted: ApprovalRequest, instead_of: int | None = None) -> _Entry:
        bucket, body = await self._open_requests(), wanted.model_dump_json().encode()
        if instead_of is None:
            return _Entry(wanted, await bucket.create(self._key(wanted), body), body)
        return _Entry(wanted, await bucket.update(self._key(wanted), body, last=instead_of), body)

    async def _decision(self, entry: _Entry) -> ApprovalDecision | None:
        found = await _get(await self._open_decisions(), self._key(entry.request))
        if found is None:
            return None
        try:
            decision = ApprovalDecision.model_validate_json(found[0])
        except ValidationError:
            return None
        # A decision on what the bucket does not hold any more, or held otherwise, is none.
        seen = sha256(entry.body).hexdigest()
        return decision if (decision.nonce, decision.request) == (entry.request.nonce, seen) else None

    async def _withdrawn(self, context: "Context[Any]", entry: _Entry) -> None:
        """The caller's own user said no at the question: it waits no more, approved or not."""
        question = _question(entry.request)
        answer = context.rounds.answer(_QUESTION, question) if context.client_can("elicitation") else None
        if answer is None:
            return
        try:
            proceed = question.read(answer).proceed
        except ToolError:
            await self._drop(entry)
            raise
        if not proceed:
            await self._drop(entry)
            raise ToolError(ErrorCode.DECLINED, "the caller withdrew the call", executed=Executed.NO)

    async def _still_waits(self, context: "Context[Any]", request: ApprovalRequest) -> ToolError:
        question = _question(request)
        if context.client_can("elicitation") and context.rounds.answer(_QUESTION, question) is None:
            await context.ask(_QUESTION, question)
        summary = request.plan.splitlines()[0]
        return ToolError(
            ErrorCode.CONFIRMATION_REQUIRED,
            f"not done yet, a second person has to approve it: {summary}",
            hint=f"Somebody else approves with 'opsbus approvals approve {self._key(request)}'; then repeat the call.",
            details={
                "approval": self._key(request),
                "plan": request.plan,
                "expires_in_s": max(0, (request.expires_ms - int(time.time() * 1000)) // 1000),
            },
            executed=Executed.NO,
        )

    async def _spend(self, entry: _Entry, decision: ApprovalDecision, wanted: ApprovalRequest) -> str:
        """The first who takes the request away may go on."""
        await self._drop(entry)
        by = decision.recorded_as or decision.approver
        if decision.approver == wanted.caller:
            raise ToolError(ErrorCode.FORBIDDEN, "nobody approves their own call", executed=Executed.NO)
        if not decision.approved:
            said = f": {decision.comment}" if decision.comment else ""
            raise ToolError(ErrorCode.DECLINED, f"{by} declined it{said}", executed=Executed.NO)
        if differs := _differs(entry.request, wanted):
            raise ToolError(
                ErrorCode.PRECONDITION_FAILED,
                f"it was approved with another {' and '.join(differs)} than there is now",
                hint="Repeat the call to have it approved as it is now.",
                executed=Executed.NO,
            )
        return by

    async def _drop(self, entry: _Entry) -> None:
        await (await self._open_requests()).delete(self._key(entry.request), last=entry.revision)

    def _key(self, request: ApprovalRequest) -> str:
        return f"{self._service}.{request.id}"

    async def _open_requests(self) -> KeyValue:
        if self._requests is None:
            self._requests = await self._js.key_value(APPROVALS.name)
        return self._requests

    async def _open_decisions(self) -> KeyValue:
        if self._decisions is None:
            self._decisions = await self._js.key_value(DECISIONS.name)
        return self._decisions


async def _get(bucket: KeyValue, key: str) -> tuple[bytes, int] | None:
    try:
        entry = await bucket.get(key)
    except KeyNotFoundError:
        return None
    return entry.value or b"", int(entry.revision or 0)


def _differs(request: ApprovalRequest, wanted: ApprovalRequest) -> list[str]:
    """What of a request is not as it is now."""
    pairs = {
        "version of the object": (request.version, wanted.version),
        "policy": (request.policy, wanted.policy),
        "plan": (request.plan, wanted.plan),
    }
    return [name for name, (then, now) in pairs.items() if then != now]


def _question(request: ApprovalRequest) -> Elicit[GoOn]:
    return Elicit(
        f"{request.plan}\n\nA second person has to approve this:"
        f" opsbus approvals approve {request.service}.{request.id}\nGo on when it is approved?",
        GoOn,
    )


def _spent() -> ToolError:
    return ToolError(
        ErrorCode.PRECONDITION_FAILED,
        "the approval was spent, or asked for, at this moment",
        hint="Read the state; repeat the call if it is still wanted.",
        executed=Executed.NO,
    )


def _unavailable(error: Exception) -> ToolError:
    return ToolError(
        ErrorCode.UNAVAILABLE,
        f"approvals cannot be kept or looked up now ({type(error).__name__}), so nothing was done",
        executed=Executed.NO,
    )
