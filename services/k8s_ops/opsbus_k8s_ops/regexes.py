"""Regular expressions of callers: RE2, so that no pattern can run longer than its text is long."""

from typing import Any

import re2  # type: ignore[import-untyped]

from opsbus import ErrorCode, ToolError

PATTERN_CHARS_MAX = 500
PATTERN_MEMORY_BYTES = 4 << 20


def compile_regex(pattern: str | None, argument: str) -> Any:
    """A compiled pattern, or None.

    Raises:
        ToolError: ``invalid_arguments`` for a pattern that is none, or is too large.
    """
    if pattern is None:
        return None
    options = re2.Options()
    options.max_mem = PATTERN_MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else "not a regular expression"
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{argument}: {said}",
            hint="RE2 syntax: no look-around and no back references; (?i) ignores case.",
        ) from None
