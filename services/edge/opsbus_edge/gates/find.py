"""The gate that finds what a request is for, in the catalogue; or says what comes near, of what the caller may see."""

import orjson

from opsbus.toolerror import near
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import Catalog
from opsbus_edge.dispatch.order import Target
from opsbus_edge.model import Request, error_body

NEAR_MAX = 3_000
"""With more names than this none is proposed: comparing costs."""


def find(catalog: Catalog, request: Request) -> Target | ErrorBody:
    """The tool, resource or prompt of a request, or the error that says there is none."""
    match request.method:
        case "tools/call":
            return catalog.tool(request.target) or _unknown_tool(catalog, request)
        case "resources/read":
            return catalog.resource(request.target) or _unknown_resource(request)
        case "prompts/get":
            return catalog.prompt(request.target) or _unknown_prompt(request)
        case "completion/complete":
            return _completed(catalog, request)
    return error_body(ErrorCode.UNKNOWN_METHOD, f"there is no method {request.method[:64]!r}")


def _completed(catalog: Catalog, request: Request) -> Target | ErrorBody:
    kind = orjson.loads(request.params).get("ref", {}).get("type")
    if kind == "ref/prompt":
        return catalog.prompt(request.target) or _unknown_prompt(request)
    if kind == "ref/resource":
        return catalog.template(request.target) or catalog.resource(request.target) or _unknown_resource(request)
    return error_body(ErrorCode.INVALID_REQUEST, "ref.type must be ref/prompt or ref/resource")


def _unknown_tool(catalog: Catalog, request: Request) -> ErrorBody:
    tools = catalog.tools()
    names: list[str] = []
    if len(tools) <= NEAR_MAX and len(request.target) <= 64:
        names = [name for name, tool in tools.items() if request.caller.sees(tool.spec.permission, name)]
    return error_body(
        ErrorCode.UNKNOWN_TOOL,
        f"there is no tool {request.target[:100]!r}",
        hint="tools/list names those there are.",
        did_you_mean=near(request.target, names),
    )


def _unknown_resource(request: Request) -> ErrorBody:
    return error_body(
        ErrorCode.UNKNOWN_RESOURCE,
        f"there is no resource {request.target[:200]!r}",
        hint="resources/list and resources/templates/list name those there are.",
        details={"uri": request.target[:2048]},
    )


def _unknown_prompt(request: Request) -> ErrorBody:
    return error_body(
        ErrorCode.UNKNOWN_PROMPT,
        f"there is no prompt {request.target[:100]!r}",
        hint="prompts/list names those there are.",
    )
