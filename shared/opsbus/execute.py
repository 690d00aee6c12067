"""A call from its message to its final reply: who, what, may they, with which arguments; then run, check, answer.

Every way out ends in exactly one Outcome. The broker publishes it; heartbeats and progress are call.py's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nats.aio.msg import Msg
from pydantic import ValidationError

from opsbus.ask import InputRequired
from opsbus.call import Call
from opsbus.context import Context
from opsbus.idempotency import key_of
from opsbus.identity import allows
from opsbus.registry import Callee, Tool
from opsbus.results import completion_body, prompt_body, resource_body, tool_body
from opsbus.toolerror import ToolError, near
from opsbus_contracts import (
    CompletionComplete,
    ErrorCode,
    Executed,
    Header,
    PromptGet,
    ResourceRead,
    Status,
    ToolCall,
)
from opsbus_contracts.calls import BODY_BYTES_MAX, TOOL_ERROR, Request

if TYPE_CHECKING:
    from opsbus.runtime import Runtime

R = TypeVar("R", bound=Request)


class Outcome(NamedTuple):
    """The final reply."""

    status: Status
    body: bytes
    executed: Executed
    error: str = ""
    """An ErrorCode, or ``tool_error``."""
    replayed: bool = False


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
        if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN):
            runtime.audit.denied(call, error)
        if error.code is ErrorCode.BAD_REPLY:
            runtime.log_of(call).error("bad_reply", tool=call.label, problem=error.details.get("problem"))
        return failed(call, error)
    except BaseExceptionGroup as group:
        # A tool's own TaskGroup wraps what its tasks raise.
        return await _ungrouped(runtime, call, group)
    except Exception as error:  # noqa: BLE001 - whatever a tool raises, its caller gets an answer
        runtime.log_of(call).exception("tool_failed", error, tool=call.label)
        return failed(call, internal(call))


async def _ungrouped(runtime: "Runtime", call: Call, group: BaseExceptionGroup[BaseException]) -> Outcome:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        told = [e for e in first.exceptions if isinstance(e, ToolError | InputRequired | BaseExceptionGroup)]
        first = (told or list(first.exceptions))[0]
    if isinstance(first, InputRequired):
        return Outcome(Status.INPUT_REQUIRED, first.body, Executed.NO)
    if isinstance(first, ToolError):
        return failed(call, first)
    runtime.log_of(call).exception("tool_failed", group, tool=call.label)
    return failed(call, internal(call))


async def _carry_out(runtime: "Runtime", call: Call) -> Outcome:
    call.check()
    token = call.headers.get(Header.IDENTITY)
    call.identity = runtime.verifier.known(token) or await call.within_time(runtime.verifier.verify(token))
    kind, _, name = call.msg.subject.split(".", 2)
    if kind == "tool":
        return await _tool(runtime, call, name)
    method = _METHODS.get(name)
    if method is None:
        raise ToolError(
            ErrorCode.UNKNOWN_METHOD, f"there is no method {name[:64]!r}", did_you_mean=near(name, _METHODS)
        )
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
    call.limit(tool.spec.timeout_s)
    _permit(call, tool.spec.permission)
    request = _read(call, ToolCall)
    arguments = tool.arguments.parse(request.arguments)
    context = _context(runtime, call)

    async def run() -> Outcome:
        value = await _run(call, tool.callee, context, arguments)
        body, is_error = tool_body(tool, value)
        return Outcome(Status.OK, body, Executed.YES, TOOL_ERROR if is_error else "")

    key = key_of(call, request.arguments)
    if key is None:
        return await _in_turn(runtime, call, run)
    return await _in_turn(runtime, call, lambda: _once(runtime, call, tool, key, run))


async def _once(runtime: "Runtime", call: Call, tool: Tool, key: str, run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Runs under an idempotency key: the first outcome is kept and repeated."""
    ticket = await runtime.idempotency.begin(call, tool, key)
    if isinstance(ticket, Outcome):
        return ticket
    try:
        outcome = await run()
    except ToolError as error:
        await runtime.idempotency.end(ticket, failed(call, error))
        raise
    except InputRequired:
        await runtime.idempotency.drop(ticket)
        raise
    except Exception:
        await runtime.idempotency.end(ticket, failed(call, internal(call)))
        raise
    await runtime.idempotency.end(ticket, outcome)
    return outcome


async def _read_resource(runtime: "Runtime", call: Call) -> bytes:
    request = _read(call, ResourceRead)
    found = runtime.worker.registry.find_resource(request.uri)
    if found is None:
        registry = runtime.worker.registry
        raise ToolError(
            ErrorCode.UNKNOWN_RESOURCE,
            f"there is no resource {request.uri[:200]!r}",
            did_you_mean=near(request.uri, (*registry.resources, *registry.templates)),
        )
    resource, variables = found
    call.label = resource.spec.name
    _permit(call, resource.spec.permission)
    arguments = resource.arguments.parse(variables)
    context = _context(runtime, call)
    value = await _in_turn(runtime, call, lambda: _run(call, resource.callee, context, arguments))
    return resource_body(resource, request.uri, value)


async def _get_prompt(runtime: "Runtime", call: Call) -> bytes:
    request = _read(call, PromptGet)
    prompt = runtime.worker.registry.prompts.get(request.name)
    if prompt is None:
        raise ToolError(
            ErrorCode.UNKNOWN_PROMPT,
            f"there is no prompt {request.name!r}",
            did_you_mean=near(request.name, runtime.worker.registry.prompts),
        )
    call.label = prompt.spec.name
    _permit(call, prompt.spec.permission)
    arguments = prompt.arguments.parse(dict(request.arguments))
    context = _context(runtime, call)
    return prompt_body(prompt, await _in_turn(runtime, call, lambda: _run(call, prompt.callee, context, arguments)))


async def _complete(runtime: "Runtime", call: Call) -> bytes:
    request = _read(call, CompletionComplete)
    registry = runtime.worker.registry
    argument, value = request.argument.get("name", ""), request.argument.get("value", "")
    if request.ref.get("type") == "ref/prompt":
        owner: Any = registry.prompts.get(request.ref.get("name", ""))
        reference = f"prompt:{request.ref.get('name')}:{argument}"
    elif request.ref.get("type") == "ref/resource":
        owner = registry.templates.get(request.ref.get("uri", ""))
        reference = f"resource:{request.ref.get('uri')}:{argument}"
    else:
        raise ToolError(ErrorCode.INVALID_REQUEST, "ref.type must be ref/prompt or ref/resource")
    if owner is None:
        code = ErrorCode.UNKNOWN_PROMPT if reference.startswith("prompt") else ErrorCode.UNKNOWN_RESOURCE
        raise ToolError(code, f"there is nothing to complete at {reference[:200]!r}")
    call.label = owner.spec.name
    _permit(call, owner.spec.permission)
    completer = registry.completers.get(reference)
    if completer is None:
        return completion_body([])
    context = _context(runtime, call)
    values = await _in_turn(
        runtime, call, lambda: _run(call, completer, context, {"value": value, "resolved": request.context})
    )
    return completion_body(values)


_METHODS: dict[str, Callable[["Runtime", Call], Awaitable[bytes]]] = {
    "resources_read": _read_resource,
    "prompts_get": _get_prompt,
    "completion_complete": _complete,
}

T = TypeVar("T")


async def _in_turn(runtime: "Runtime", call: Call, work: Callable[[], Awaitable[T]]) -> T:
    """Runs the work when there is a place for it, within the call's time; gives the place back when the work ended.

    Work that does not end when cancelled keeps its place: it still costs what a running call costs.
    """
    if call.remaining_s == float("inf"):
        call.limit(_METHOD_TIMEOUT_S)
    turn = runtime.gate.enter()
    if turn is not None:
        try:
            await call.within_time(turn)
        except BaseException:
            runtime.gate.give_up(turn)
            raise
    task = asyncio.ensure_future(work())
    task.add_done_callback(lambda _: runtime.gate.leave())
    return await call.within_time(task)


_METHOD_TIMEOUT_S = 30.0


async def _run(call: Call, callee: Callee, context: Context[Any], arguments: dict[str, Any]) -> Any:
    call.started = True
    return await callee(context, **arguments)


def _context(runtime: "Runtime", call: Call) -> Context[Any]:
    return Context(runtime, call, runtime.log_of(call))


def _permit(call: Call, needed: str) -> None:
    if not allows(call.caller.permissions, needed):
        raise ToolError(
            ErrorCode.FORBIDDEN,
            f"{call.caller.sub} may not do this: it needs the permission {needed}",
            hint="Ask whoever hands out roles.",
            details={"permission": needed},
        )


def _read(call: Call, model: type[R]) -> R:
    """The request's body.

    Raises:
        ToolError: ``invalid_request``, saying what is wrong with it.
    """
    try:
        request = model.model_validate_json(call.msg.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise ToolError(ErrorCode.INVALID_REQUEST, f"no {model.__name__}: {where}: {first['msg']}") from None
    call.request = request
    return request


def failed(call: Call, error: ToolError) -> Outcome:
    """An error as the final reply; details too large for a message are left out."""
    body = error.body(mutating=call.mutating, started=call.started)
    encoded = body.model_dump_json(exclude_none=True).encode()
    if len(encoded) > BODY_BYTES_MAX:
        body.details = {"left_out": "the details were too large for a message"}
        body.message = body.message[:2000]
        encoded = body.model_dump_json(exclude_none=True).encode()
    return Outcome(Status.ERROR, encoded, body.executed, body.code.value)


def internal(call: Call) -> ToolError:
    """What a caller learns of an exception: nothing but where to look."""
    return ToolError(
        ErrorCode.INTERNAL,
        "the tool failed inside",
        hint=f"Its owners find the cause in their log under call {call.id}.",
        details={"call": call.id},
    )


def _observe(runtime: "Runtime", call: Call, outcome: Outcome) -> None:
    said = outcome.error or outcome.status.value
    runtime.metrics.calls.labels(call.label, said).inc()
    runtime.metrics.duration.labels(call.label).observe(call.duration_s)
    runtime.stats.count(call.msg.subject, call.duration_s, outcome.error)
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
