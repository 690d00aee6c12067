"""The edge's own words about a call that no worker had the last word on: executed, not executed or unknown."""

from opsbus_contracts.calls import SILENCE_MAX_S
from opsbus_contracts.errors import ErrorCode, Executed
from opsbus_edge.dispatch.order import Order
from opsbus_edge.model import Reply, error_body, error_reply

_READ_FIRST = "Read the state before you try again."
_AGAIN = "Nothing is changed by trying again."


def overloaded(in_flight_max: int) -> Reply:
    """The edge is at its bound."""
    error = error_body(
        ErrorCode.BUSY,
        f"the edge has {in_flight_max} calls under way, which is its bound",
        hint="Try again in a moment.",
        retry_after_ms=500,
    )
    return error_reply(error)


def not_connected(order: Order, attempts: int, lost: int) -> Reply:
    """NATS is not there, so that (this time) nothing was sent."""
    if lost:
        return lost_for_good(order, attempts)
    error = error_body(
        ErrorCode.UNAVAILABLE,
        "the bus is not reachable; the call was not sent",
        hint="Try again in a few seconds.",
        retry_after_ms=2_000,
    )
    return error_reply(error, attempts=attempts)


def no_worker(order: Order, attempts: int, lost: int) -> Reply:
    """Nobody listens."""
    if lost and not order.repeatable:
        return lost_for_good(order, attempts)
    error = error_body(
        ErrorCode.NO_WORKER,
        f"no worker of {order.service!r} is there",
        hint="Try again when the service is back.",
        executed=_truth(order, lost),
        retry_after_ms=2_000,
    )
    return error_reply(error, attempts=attempts)


def lost_for_good(order: Order, attempts: int) -> Reply:
    """The worker went silent and the call may not, or no more, move to another."""
    silence = f"the worker of {order.service!r} went silent for {SILENCE_MAX_S:.0f} s"
    if not order.mutating:
        error = error_body(
            ErrorCode.UNAVAILABLE,
            f"{silence}, and so did those tried after it" if attempts > 1 else silence,
            hint=_AGAIN,
            executed=Executed.UNKNOWN,
        )
    else:
        error = error_body(
            ErrorCode.OUTCOME_UNKNOWN,
            f"{silence}; whether the change was made is not known",
            hint=_READ_FIRST if not order.repeatable else "The tool is idempotent: the same call may be repeated.",
            executed=Executed.UNKNOWN,
        )
    return error_reply(error, attempts=attempts)


def deadline_exceeded(order: Order, attempts: int) -> Reply:
    """The time is over and the worker has not said how it went."""
    error = error_body(
        ErrorCode.DEADLINE_EXCEEDED,
        f"no answer within {order.timeout_s:g} s",
        hint=_READ_FIRST if order.mutating else "Ask for less, or allow more time.",
        executed=Executed.UNKNOWN,
    )
    return error_reply(error, attempts=attempts)


def _truth(order: Order, lost: int) -> Executed:
    return Executed.UNKNOWN if lost else Executed.NO
