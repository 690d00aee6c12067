"""The steps that every kind of call takes: read the body, check the permission, wait for a place, run the function."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from opsbus.ask import InputRequired
from opsbus.call import Call
from opsbus.context import Context
from opsbus.permission import Touched, decide, may, said
from opsbus.registry import Callee
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode
from opsbus_contracts.calls import Request

if TYPE_CHECKING:
    from opsbus.runtime import Runtime

R = TypeVar("R", bound=Request)
T = TypeVar("T")

METHOD_TIMEOUT_S = 30.0
"""A call without a deadline and without a tool's own timeout ends after this long. Seconds."""


async def in_turn(runtime: "Runtime", call: Call, work: Callable[[], Awaitable[T]]) -> T:
    """Runs the work when there is a place for it, within the call's time; gives the place back when the work ended.

    Work that does not end when cancelled keeps its place: it still costs what a running call costs.
    """
    if call.remaining_s == float("inf"):
        call.limit(METHOD_TIMEOUT_S)
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


async def run(call: Call, callee: Callee, context: Context[Any], arguments: dict[str, Any]) -> Any:
    """The function's value. What it raises out of a task group comes out plain."""
    call.started = True
    try:
        return await callee(context, **arguments)
    except BaseExceptionGroup as group:
        raise _told(group) or group from None


def _told(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first error or question that a tool meant to tell."""
    for error in group.exceptions:
        found = _told(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, ToolError | InputRequired):
            return found
    return None


def context_of(runtime: "Runtime", call: Call) -> Context[Any]:
    return Context(runtime, call, runtime.log_of(call))


def permit(call: Call, needed: str, touches: Touched | None = None) -> None:
    """Refuse a call that its caller may not make.

    Args:
        touches: What the call touches; None: not known yet, so only what no argument could change is refused.

    Raises:
        ToolError: ``forbidden``.
    """
    caller = call.caller
    permissions = tuple(caller.permissions)
    if touches is None:
        if not may(permissions, caller.grants, needed):
            raise _forbidden(call, needed)
        return
    decision = decide(permissions, caller.grants, needed, touches)
    if not decision.permitted:
        raise _forbidden(call, needed, tuple(said(grant) for grant in decision.possible))


def _forbidden(call: Call, needed: str, possible: tuple[str, ...] = ()) -> ToolError:
    return ToolError(
        ErrorCode.FORBIDDEN,
        f"{call.caller.sub} may not do this: it needs the permission {needed}{' there' if possible else ''}",
        hint=f"Permitted: {'; '.join(possible[:5])}." if possible else "Ask whoever hands out roles.",
        details={"permission": needed},
    )


def read_body(call: Call, model: type[R]) -> R:
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
