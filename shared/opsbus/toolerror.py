"""The one exception a tool raises to say what is wrong, and the wording of near names.

The wire shape is opsbus_contracts.ErrorBody.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from opsbus_contracts import CODES, ErrorBody, ErrorCode, Executed

# Codes that mean, by their definition, that the effect did not take place.
_NOT_EXECUTED = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_ARGUMENTS,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.UNKNOWN_TOOL,
        ErrorCode.UNKNOWN_RESOURCE,
        ErrorCode.UNKNOWN_PROMPT,
        ErrorCode.UNKNOWN_METHOD,
        ErrorCode.MISSING_CAPABILITY,
        ErrorCode.NOT_FOUND,
        ErrorCode.CONFLICT,
        ErrorCode.PRECONDITION_FAILED,
        ErrorCode.CONFIRMATION_REQUIRED,
        ErrorCode.DECLINED,
        ErrorCode.DUPLICATE_IN_PROGRESS,
        ErrorCode.RATE_LIMITED,
        ErrorCode.QUARANTINED,
        ErrorCode.BUSY,
        ErrorCode.NO_WORKER,
        ErrorCode.REQUEST_TOO_LARGE,
    }
)


class ToolError(Exception):
    """An error the caller is told, in the error shape.

    Args:
        code: What kind of error; decides the HTTP status and whether a retry may help.
        message: One sentence: what is wrong.
        hint: One sentence: what to do.
        did_you_mean: Names near to the one given.
        details: Facts for a program, by name. Never a secret.
        executed: Whether the call had its effect. None: ``no`` for a tool that only reads and for codes that mean it
            (``not_found``, ``conflict``, ...), else ``unknown``; a write that knows better says so.
        retryable: None: by the code.
        retry_after_ms: When to try again. Milliseconds.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str = "",
        did_you_mean: Sequence[str] = (),
        details: dict[str, Any] | None = None,
        executed: Executed | None = None,
        retryable: bool | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = ErrorCode(code)
        self.message = message
        self.hint = hint
        self.did_you_mean = list(did_you_mean)
        self.details = details or {}
        self.executed = executed
        self.retryable = CODES[self.code].retryable if retryable is None else retryable
        self.retry_after_ms = retry_after_ms

    def body(self, *, mutating: bool = False, started: bool = False) -> ErrorBody:
        """The error as it travels. ``mutating`` and ``started`` tell how far the call had come."""
        executed = self.executed
        if executed is None:
            told = not mutating or not started or self.code in _NOT_EXECUTED
            executed = Executed.NO if told else Executed.UNKNOWN
        return ErrorBody(
            code=self.code,
            message=self.message,
            retryable=self.retryable,
            hint=self.hint,
            did_you_mean=self.did_you_mean,
            executed=executed,
            retry_after_ms=self.retry_after_ms,
            details=self.details,
        )


def near(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """The names most like ``name``, best first; for ``did_you_mean``."""
    return get_close_matches(name, list(names), n=most, cutoff=0.6)
