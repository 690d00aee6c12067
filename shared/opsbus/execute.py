"""A call from its message to its final reply: who, what, may they, with which arguments; then run, check, answer.

Every way out ends in exactly one Outcome. The broker publishes it; heartbeats and progress are call.py's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg

from opsbus import shadow
from opsbus.ask import InputRequired
from opsbus.call import Call
from opsbus.idempotency import key_of
from opsbus.logs import masked
from opsbus.methods import METHODS
from opsbus.outcome import Outcome, failed, internal
from opsbus.permission import touched
from opsbus.plan import Change, Plan
from opsbus.registry import Tool
from opsbus.results import tool_body
from opsbus.second_person import TWO_PERSON
from opsbus.steps import context_of, in_turn, permit, read_body, run
from opsbus.toolerror import ToolError, near
from opsbus_contracts import (
    ErrorCode,
    Executed,
    Header,
    Status,
    ToolCall,
)
from opsbus_contracts.calls import BODY_BYTES_MAX, TOOL_ERROR
from opsbus_contracts.names import mcp_name

if TYPE_CHECKING:
    from opsbus.runtime import Runtime

_REFUSALS = (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.QUARANTINED)


async def answer(runtime: "Runtime", msg: Msg) -> tuple[bytes, dict[str, str]]:
    """Carries a call out; gives the final reply's body and headers. Raises only when its own task is cancelled."""
    call = Call(msg, runtime.client, runtime.instance)
    runtime.calls.add(call)
    call.start_heartbeat()
    try:
        with runtime.tracing.span(call):
            outcome = await _outcome(runtime, call)
            call.error = outcome.error
    finally:
        call.close()
        runtime.calls.discard(call)
    _observe(runtime, call, outcome)
    headers = {
        Header.STATUS.value: outcome.status.value,
        Header.INSTANCE.value: runtime.instance,
        Header.EXECUTED.value: outcome.executed.value,
    }
    if outcome.error:
        headers[Header.ERROR_CODE.value] = outcome.error
    if call.approver:
        headers[Header.APPROVER.value] = call.approver
    if outcome.replayed:
        headers[Header.REPLAYED.value] = "true"
    return outcome.body, headers


async def _outcome(runtime: "Runtime", call: Call) -> Outcome:
    try:
        return await _carry_out(runtime, call)
    except InputRequired as question:
        if len(question.body) > BODY_BYTES_MAX:
            return failed(call, ToolError(ErrorCode.RESULT_TOO_LARGE, "the questions are too large for a message"))
        return Outcome(Status.INPUT_REQUIRED, question.body, Executed.NO)
    except ToolError as error:
        # What a candidate refuses happened to nobody, and is no part of the record.
        if (
            error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN, ErrorCode.QUARANTINED)
            and not runtime.settings.shadow
        ):
            runtime.audit.denied(call, error)
        if error.code is ErrorCode.BAD_REPLY:
            runtime.log_of(call).error("bad_reply", tool=call.label, problem=error.details.get("problem"))
        return failed(call, error)
    except Exception as error:  # noqa: BLE001 - whatever a tool raises, its caller gets an answer
        runtime.log_of(call).exception("tool_failed", error, tool=call.label)
        return failed(call, internal(call))


async def _carry_out(runtime: "Runtime", call: Call) -> Outcome:
    call.check()
    token = call.headers.get(Header.IDENTITY)
    call.identity = runtime.verifier.known(token) or await call.within_time(runtime.verifier.verify(token))
    kind, _, name = call.msg.subject.split(".", 2)
    if kind in ("tool", "shadow"):
        return await _tool(runtime, call, name)
    runtime.check_quarantine(call, "")
    method = METHODS.get(name)
    if method is None:
        raise ToolError(ErrorCode.UNKNOWN_METHOD, f"there is no method {name[:64]!r}", did_you_mean=near(name, METHODS))
    body = await method(runtime, call)
    return Outcome(Status.OK, body, Executed.YES)


async def _tool(runtime: "Runtime", call: Call, name: str) -> Outcome:
    tool = runtime.worker.registry.tools.get(name)
    if tool is None:
        tools = runtime.worker.registry.tools
        raise ToolError(
            ErrorCode.UNKNOWN_TOOL, f"{runtime.worker.name} has no tool {name[:64]!r}", did_you_mean=near(name, tools)
        )
    call.label = name
    call.mutating = tool.mutating
    if runtime.settings.shadow:
        shadow.check(tool)
    call.limit(tool.spec.timeout_s)
    runtime.check_quarantine(call, name)
    permit(call, tool.spec.permission)
    request = read_body(call, ToolCall)
    # What came counts, not what becomes of it: the edge decided on the same.
    permit(call, tool.spec.permission, touched(request.arguments, tool.spec.scope))
    arguments = tool.arguments.parse(request.arguments)
    context = context_of(runtime, call)

    async def attempt() -> Outcome:
        if context.approval == TWO_PERSON and not tool.plans:
            await context.confirm(_as_called(runtime, name, request.arguments))
        value = await run(call, tool.callee, context, arguments)
        body, is_error = tool_body(tool, value)
        return Outcome(Status.OK, body, Executed.YES, TOOL_ERROR if is_error else "")

    key = key_of(call, request.arguments)
    if key is None:
        return await in_turn(runtime, call, attempt)
    return await in_turn(runtime, call, lambda: _once(runtime, call, tool, key, attempt))


async def _once(
    runtime: "Runtime", call: Call, tool: Tool, key: str, attempt: Callable[[], Awaitable[Outcome]]
) -> Outcome:
    """Runs under an idempotency key: the first outcome is kept and repeated."""
    ticket = await runtime.idempotency.begin(call, tool, key)
    if isinstance(ticket, Outcome):
        return ticket
    try:
        outcome = await attempt()
    except ToolError as error:
        await runtime.idempotency.end(ticket, failed(call, error))
        raise
    except InputRequired:
        await runtime.idempotency.drop(ticket)
        raise
    except asyncio.CancelledError:
        await runtime.idempotency.end(ticket, failed(call, call.cut_short()))
        raise
    except Exception:
        await runtime.idempotency.end(ticket, failed(call, internal(call)))
        raise
    await runtime.idempotency.end(ticket, outcome)
    return outcome


def _as_called(runtime: "Runtime", tool: str, arguments: dict[str, Any]) -> Plan:
    """What a second person sees of a tool that has no plan of its own."""
    changes = [Change(path=name, after=value) for name, value in masked(arguments).items()]
    return Plan(summary=f"Call {mcp_name(runtime.worker.name, tool)}", changes=changes)


def _observe(runtime: "Runtime", call: Call, outcome: Outcome) -> None:
    said = outcome.error or outcome.status.value
    runtime.metrics.ended(call.label, said, call.duration_s)
    runtime.stats.count(call.msg.subject, call.duration_s, outcome.error)
    if outcome.status is not Status.ERROR and not runtime.log.debugs:
        return
    log = runtime.log_of(call)
    write = log.info if outcome.status is Status.ERROR else log.debug
    write(
        "call",
        tool=call.label,
        outcome=said,
        executed=outcome.executed.value,
        ms=round(call.duration_s * 1000, 1),
        caller=call.identity.sub if call.identity else "",
    )
