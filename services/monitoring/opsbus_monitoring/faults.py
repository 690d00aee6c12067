"""What a backend's failure means to a caller: BackendError as ToolError."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from opsbus import ErrorCode, Executed, ToolError
from opsbus_monitoring.backend import BackendError

Raw = TypeVar("Raw")
Made = TypeVar("Made")

_CODES = {
    "unavailable": ErrorCode.BACKEND_UNAVAILABLE,
    "unauthorized": ErrorCode.BACKEND_ERROR,
    "not_found": ErrorCode.NOT_FOUND,
    "conflict": ErrorCode.CONFLICT,
    "bad_request": ErrorCode.INVALID_ARGUMENTS,
    "too_large": ErrorCode.RESULT_TOO_LARGE,
    "error": ErrorCode.BACKEND_ERROR,
}


def told(error: BackendError, *, writes: bool = False) -> ToolError:
    """The error as a caller is told it. A write that was sent and not answered is ``outcome_unknown``."""
    details = {"system": error.system} | ({"http_status": error.status} if error.status else {})
    if writes and error.sent and (error.code == "unavailable" or error.status >= 500):
        return ToolError(
            ErrorCode.OUTCOME_UNKNOWN,
            f"{error.message} Whether the write happened is unknown.",
            hint="Read what is there before anything else; do not simply repeat the call.",
            details=details,
            executed=Executed.UNKNOWN,
        )
    code = _CODES.get(error.code, ErrorCode.BACKEND_ERROR)
    retryable = error.retryable if code is ErrorCode.BACKEND_UNAVAILABLE else None
    return ToolError(code, error.message, hint=error.hint, details=details, executed=Executed.NO, retryable=retryable)


def each(make: Callable[[Raw], Made], items: Iterable[Raw], system: str) -> list[Made]:
    """Every item as ``make`` shows it.

    Raises:
        ToolError: ``backend_unavailable``: an item is not as the system's API has it.
    """
    try:
        return [make(item) for item in items]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"{system} answered JSON of another shape than its API's ({type(error).__name__}).",
            hint=f"Is it {system} that the worker's settings name? Its version may be one that is not known.",
            details={"system": system},
            executed=Executed.NO,
        ) from error


@contextmanager
def asking(*, writes: bool = False, lacks: str = "") -> Iterator[None]:
    """Around requests to a backend: what they raise becomes a ToolError.

    Args:
        writes: The requests change something.
        lacks: What a system that answers "not found" does not have: ``scrape targets``.

    Raises:
        ToolError: for every BackendError.
    """
    try:
        yield
    except BackendError as error:
        if lacks and error.code == "not_found":
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"the system behind {error.system}'s address has no {lacks}",
                hint="Thanos, Mimir and others answer queries only: ask the Prometheus or agent that scrapes.",
                details={"system": error.system},
                executed=Executed.NO,
            ) from error
        raise told(error, writes=writes) from error
