"""The final reply of a call, and errors as one. How it comes about is execute.py's matter."""

from typing import NamedTuple

from opsbus.call import Call
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed, Status
from opsbus_contracts.calls import BODY_BYTES_MAX


class Outcome(NamedTuple):
    """The final reply."""

    status: Status
    body: bytes
    executed: Executed
    error: str = ""
    """An ErrorCode, or ``tool_error``."""
    replayed: bool = False


def failed(call: Call, error: ToolError) -> Outcome:
    """An error as the final reply; details that are too large for a message, or no JSON, are left out."""
    body = error.body(mutating=call.mutating, started=call.started)
    try:
        encoded = body.model_dump_json(exclude_none=True).encode()
    except ValueError:
        encoded = b""
    if not 0 < len(encoded) <= BODY_BYTES_MAX:
        body.details = {
            "left_out": "the details were too large for a message" if encoded else "the details were no JSON"
        }
        body.message, body.hint, body.did_you_mean = body.message[:2000], body.hint[:2000], []
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
