"""``GET /api/v1/audit/events``: the record for a SIEM, as NDJSON with a cursor. A thin face of the tool
``audit_read_events``: the same pipeline and gates as every call, and reading is recorded as one."""

import orjson

from opsbus_contracts.calls import Status
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.model import Reply, error_body

PATH = "/audit/events"
TOOL = "audit_read_events"
NDJSON = (b"content-type", b"application/x-ndjson")
NEXT = b"opsbus-next-cursor"
PARAMETERS = ("actor", "tool", "service", "stage", "outcome", "since", "until", "limit", "cursor")


def arguments_of(query: dict[str, str]) -> bytes | ErrorBody:
    """The tool's arguments of a query; what they may be is the tool's own matter."""
    unknown = [name for name in query if name not in PARAMETERS]
    if unknown:
        return error_body(
            ErrorCode.INVALID_REQUEST,
            f"there is no parameter {unknown[0][:64]!r}",
            hint=f"There are: {', '.join(PARAMETERS)}.",
        )
    arguments: dict[str, str | int] = {name: value for name, value in query.items() if value}
    if "limit" in arguments:
        limit = str(arguments["limit"])
        if not (limit.isascii() and limit.isdecimal() and len(limit) <= 6):
            return error_body(ErrorCode.INVALID_REQUEST, "limit must be a number", hint="1 to 1000.")
        arguments["limit"] = int(limit)
    return orjson.dumps(arguments)


def lines_of(reply: Reply) -> tuple[bytes, list[tuple[bytes, bytes]]] | None:
    """The events as lines, with the cursor as a header; None: the reply is no page of events."""
    if reply.status is not Status.OK:
        return None
    result = orjson.loads(reply.body)
    found = result.get("structuredContent") if isinstance(result, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("items"), list) or result.get("isError"):
        return None
    cursor = found.get("resume_cursor")
    headers = [(b"cache-control", b"no-store")]
    if isinstance(cursor, str) and cursor.isascii() and cursor.isprintable():
        headers.append((NEXT, cursor.encode()))
    return b"".join([orjson.dumps(item) + b"\n" for item in found["items"]]), headers
