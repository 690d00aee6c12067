"""A reply's message becomes a Reply, once it is seen to be one. Results are never parsed: a glance must do."""

from collections.abc import Mapping

from nats.aio.msg import Msg
from pydantic import ValidationError

from opsbus_contracts.calls import BODY_BYTES_MAX, Header, Status
from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_edge.model import Reply, error_body, error_reply

_STATUS = Header.STATUS.value
_INSTANCE = Header.INSTANCE.value
_ERROR_CODE = Header.ERROR_CODE.value
_EXECUTED = Header.EXECUTED.value
_REPLAYED = Header.REPLAYED.value
_APPROVER = Header.APPROVER.value
_RESULTS = {Status.OK.value: Status.OK, Status.INPUT_REQUIRED.value: Status.INPUT_REQUIRED}
_TRUTH = {executed.value: executed for executed in Executed}


def is_no_responders(msg: Msg) -> bool:
    """NATS itself answered: nobody listens, nothing was executed."""
    return not msg.data and (msg.headers or {}).get("Status") == "503"


def status_of(msg: Msg) -> str:
    """``Opsbus-Status``, empty when there is none."""
    return (msg.headers or {}).get(_STATUS, "")


def final_reply(msg: Msg, attempts: int) -> Reply:
    """The final reply that a message carries; ``bad_reply`` when it is not what it says."""
    headers: Mapping[str, str] = msg.headers or {}
    status = headers.get(_STATUS, "")
    instance = headers.get(_INSTANCE, "")
    executed = _TRUTH.get(headers.get(_EXECUTED, ""))
    if len(msg.data) > BODY_BYTES_MAX:
        return _bad(f"a body of {len(msg.data)} bytes", executed, instance, attempts)
    if status in _RESULTS:
        if not msg.data.startswith(b"{") or not msg.data.endswith(b"}"):
            return _bad("a result that is no JSON object", executed, instance, attempts)
        return Reply(
            _RESULTS[status],
            msg.data,
            error_code=headers.get(_ERROR_CODE),
            executed=executed or (Executed.YES if status == Status.OK else Executed.NO),
            instance=instance,
            attempts=attempts,
            replayed=headers.get(_REPLAYED) == "true",
            approver=headers.get(_APPROVER, "")[:256],
        )
    if status == Status.ERROR:
        return _error(msg, headers, executed, instance, attempts)
    return _bad(f"the status {status[:40]!r}", executed, instance, attempts)


def _error(msg: Msg, headers: Mapping[str, str], executed: Executed | None, instance: str, attempts: int) -> Reply:
    try:
        error = ErrorBody.model_validate_json(msg.data)
    except ValidationError:
        return _bad("an error that is none", executed, instance, attempts)
    if executed is not None and executed is not error.executed:
        # Header and body disagree: neither can be believed.
        error.executed = Executed.UNKNOWN
    reply = error_reply(error, instance=instance, attempts=attempts)
    reply.replayed = headers.get(_REPLAYED) == "true"
    reply.approver = headers.get(_APPROVER, "")[:256]
    return reply


def _bad(what: str, executed: Executed | None, instance: str, attempts: int) -> Reply:
    error = error_body(
        ErrorCode.BAD_REPLY,
        f"the worker answered with {what}",
        hint="Report it to the service's owners.",
        executed=executed or Executed.UNKNOWN,
        details={"instance": instance[:64]},
    )
    return error_reply(error, instance=instance, attempts=attempts)
