"""A worker's results before they reach the SDK: checked against MCP's schema, fitted to the era.

The SDK takes a malformed result of a modern call for an empty one, and fails the whole request where an older era has
no word for a value; both are settled here.
"""

from functools import lru_cache
from typing import Any, get_args

import orjson
from mcp_types import methods
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import TypeAdapter, ValidationError

from opsbus_contracts.errors import ErrorBody, ErrorCode, Executed
from opsbus_edge.answers import LEGACY
from opsbus_edge.model import error_body


def checked(method: str, body: bytes, executed: Executed) -> dict[str, Any] | ErrorBody:
    """The result of an ``ok`` or ``input_required`` reply, or ``bad_reply`` when it is none by MCP's schema."""
    try:
        result: dict[str, Any] = orjson.loads(body)
        kind = "input_required" if isinstance(result, dict) and methods.is_input_required(result) else "complete"
        _shape(method, kind).validate_python({"resultType": kind, **_cache_fields(method), **result}, by_name=False)
    except (ValueError, TypeError, ValidationError) as error:
        where = _where(error)
        return error_body(
            ErrorCode.BAD_REPLY,
            f"The worker's answer is not a valid MCP result{where}.",
            hint="Tell the team that owns it; the call itself has run.",
            executed=executed,
        )
    return result


def for_era(result: dict[str, Any], era: str) -> dict[str, Any]:
    """The modern era wants every result's type named.

    The older ones know ``structuredContent`` as an object alone; the text says the same.
    """
    if era != LEGACY:
        return {"resultType": "complete", **result}
    if "structuredContent" in result and not isinstance(result["structuredContent"], dict):
        return {key: value for key, value in result.items() if key != "structuredContent"}
    return result


@lru_cache(maxsize=16)
def _shape(method: str, kind: str) -> TypeAdapter[Any]:
    """The schema of one kind of result; the SDK's own tries all kinds and takes whichever fits."""
    whole = methods.SERVER_RESULTS[method, LATEST_MODERN_VERSION]
    arms = get_args(whole) or (whole,)
    wanted = [arm for arm in arms if (arm.__name__ == "InputRequiredResult") == (kind == "input_required")]
    return TypeAdapter(wanted[0])


def _cache_fields(method: str) -> dict[str, Any]:
    return {"ttlMs": 0, "cacheScope": "private"} if method == "resources/read" else {}


def _where(error: Exception) -> str:
    """Where it is wrong; never what is there."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f" at {'.'.join(str(part) for part in first['loc'])}"
