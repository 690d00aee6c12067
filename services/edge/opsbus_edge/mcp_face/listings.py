"""Lists: pages of the catalogue as the caller may see them, in the era's words."""

from collections.abc import Callable
from typing import Any

import orjson

from opsbus_contracts.errors import ErrorCode
from opsbus_edge.answers import LEGACY
from opsbus_edge.catalog.entries import Listing
from opsbus_edge.catalog.pages import InvalidCursorError
from opsbus_edge.mcp_face.exchange import Ctx, exchange_of
from opsbus_edge.mcp_face.face import Face
from opsbus_edge.mcp_face.failures import refuse
from opsbus_edge.mcp_face.results import for_era
from opsbus_edge.model import Caller

Page = Callable[[Caller, str | None], Listing]


def list_page(face: Face, ctx: Ctx, field: str, page: Page, cursor: str | None) -> dict[str, Any]:
    """``{field: [...], "nextCursor"}``: one page.

    Raises:
        MCPError: the cursor is not one that the list gave out.
    """
    exchange = exchange_of(face.edge, ctx)
    try:
        listing = page(exchange.caller, cursor)
    except InvalidCursorError as error:
        refuse(ErrorCode.INVALID_REQUEST, str(error), hint="List again without a cursor.", era=exchange.era)
    items = orjson.loads(listing.items_json)
    if field == "tools" and exchange.era == LEGACY:
        items = [_legacy_tool(item) for item in items]
    found: dict[str, Any] = {field: items}
    if listing.next_cursor is not None:
        found["nextCursor"] = listing.next_cursor
    return for_era(found, exchange.era)


def _legacy_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """The older eras know an output schema of objects alone; one other would cost the client the whole list."""
    schema = tool.get("outputSchema")
    if isinstance(schema, dict) and schema.get("type") != "object":
        return {key: value for key, value in tool.items() if key != "outputSchema"}
    return tool
