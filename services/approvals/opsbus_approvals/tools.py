"""The tools: list what waits, approve, decline. What stands in the buckets is book.py's matter."""

import time
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Executed, Page, Plan, ToolError
from opsbus.platform_audit import NotRecordedError
from opsbus_approvals.deciding import Deciding
from opsbus_contracts import ApprovalDecision, ApprovalRequest, AuditRecord, Stage

LIMIT_MAX = 200

Service = Annotated[str, Field(description="Whose worker has the call: k8s.", min_length=1, max_length=32)]
Id = Annotated[str, Field(description="As the call that waits and approvals_list name it.", pattern=r"^[0-9a-f]{20}$")]
Comment = Annotated[str, Field(description="Why; it goes into the record.", max_length=1_000)]
Confirm = Annotated[str | None, Field(description="The token of a plan that was shown.", max_length=200)]


class Waiting(BaseModel):
    """A call that waits."""

    service: str
    id: str
    tool: str
    caller: str
    call: str
    plan: str = Field(description="What would be done.")
    requested_at: datetime
    expires_at: datetime

    def line(self) -> str:
        """For a terminal."""
        return f"{self.service}.{self.id}  {self.tool} for {self.caller}, until {self.expires_at:%H:%M:%S} UTC"


class WaitingCalls(Page[Waiting]):
    """The oldest first."""

    def to_text(self) -> str:
        """What a person reads."""
        if not self.items:
            return "no call waits for a second person"
        blocks = [f"{one.line()}\n" + "\n".join(f"  {text}" for text in one.plan.splitlines()) for one in self.items]
        return "\n\n".join([*blocks, *self.warnings])


class Decided(BaseModel):
    """What was decided."""

    service: str
    id: str
    tool: str
    caller: str
    call: str
    approved: bool
    approver: str

    def to_text(self) -> str:
        """A sentence, and what happens next."""
        if not self.approved:
            return f"Declined {self.tool} for {self.caller}; it will not be done."
        return f"Approved {self.tool} for {self.caller}. It is done when they repeat, or go on with, their call."


async def list_waiting(
    ctx: Context[Deciding],
    service: Annotated[str | None, Field(description="Only calls of this service.", max_length=32)] = None,
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = 50,
) -> WaitingCalls:
    """Calls that wait for a second person: who wants what, with the plan. Approve with approvals_approve."""
    found = [one for one in await ctx.state.book.waiting() if service in (None, one.service)]
    page = WaitingCalls.fit([_waiting(one) for one in found[:limit]], total=len(found), source="bucket APPROVALS")
    return WaitingCalls.model_validate(page.model_dump())


async def approve(
    ctx: Context[Deciding], service: Service, id: Id, comment: Comment = "", confirm: Confirm = None
) -> Decided:
    """Approve a call that waits for a second person, after reading its plan. Nobody approves their own.

    Example: approvals_approve(service="k8s", id="4f1c0a9b2d3e4f5a6b7c").
    """
    return await _decide(ctx, service, id, comment, confirm, approved=True)


async def decline(
    ctx: Context[Deciding], service: Service, id: Id, comment: Comment = "", confirm: Confirm = None
) -> Decided:
    """Decline a call that waits for a second person: it is not done, and its caller is told."""
    return await _decide(ctx, service, id, comment, confirm, approved=False)


async def _decide(
    ctx: Context[Deciding], service: str, id: str, comment: str, confirm: str | None, *, approved: bool
) -> Decided:
    request, digest = await ctx.state.book.find(f"{service}.{id}")
    me = ctx.identity
    if me.sub == request.caller and approved:
        raise ToolError(
            ErrorCode.FORBIDDEN, "nobody approves their own call", hint="Ask somebody else.", executed=Executed.NO
        )
    verb = "Approve" if approved else "Decline"
    plan = Plan(
        summary=f"{verb} {request.tool} for {_name(request)} (call {request.call})",
        blast_radius=request.plan,
    )
    await ctx.confirm(plan, version=request.nonce, confirm=confirm)
    decision = ApprovalDecision(
        nonce=request.nonce,
        request=digest,
        approved=approved,
        approver=me.sub,
        recorded_as=me.record_as,
        comment=comment,
        decided_ms=int(time.time() * 1000),
    )
    await _record(ctx, request, decision)
    await ctx.state.book.decide(f"{service}.{id}", decision)
    event = "approved" if approved else "declined"
    await ctx.emit(event, {"service": service, "id": id, "tool": request.tool, "call": request.call})
    return Decided(
        service=service, id=id, tool=request.tool, caller=_name(request), call=request.call, approved=approved,
        approver=me.record_as or me.sub,
    )  # fmt: skip


async def _record(ctx: Context[Deciding], request: ApprovalRequest, decision: ApprovalDecision) -> None:
    """A step of the call that waits. A decision that is not recorded does not count."""
    by = decision.recorded_as or decision.approver
    facts = {"approval": f"{request.service}.{request.id}", "plan": request.plan, "decided_by_call": ctx.call_id}
    record = AuditRecord(
        stage=Stage.APPROVED if decision.approved else Stage.DENIED,
        call=request.call,
        actor=request.recorded_as or request.caller,
        tool=request.tool,
        service=request.service,
        mutating=True,
        arguments_digest=request.arguments_digest,
        policy=request.policy,
        approver=by,
        reason=decision.comment,
        executed=None if decision.approved else Executed.NO,
        error=None if decision.approved else ErrorCode.DECLINED,
        message="" if decision.approved else f"{by} declined it",
        details=facts,
    )
    try:
        await ctx.state.record.step(record)
    except NotRecordedError as error:
        raise ToolError(
            ErrorCode.AUDIT_UNAVAILABLE, f"{error}; the decision does not count", executed=Executed.NO
        ) from error


def _waiting(request: ApprovalRequest) -> Waiting:
    return Waiting(
        service=request.service,
        id=request.id,
        tool=request.tool,
        caller=_name(request),
        call=request.call,
        plan=request.plan,
        requested_at=datetime.fromtimestamp(request.requested_ms / 1000, UTC),
        expires_at=datetime.fromtimestamp(request.expires_ms / 1000, UTC),
    )


def _name(request: ApprovalRequest) -> str:
    return request.caller
