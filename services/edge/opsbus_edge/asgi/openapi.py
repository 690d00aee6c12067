"""OpenAPI 3.1 of the REST face; for an authenticated reader with one operation per tool it may call."""

from typing import Any

from opsbus_contracts.errors import CODES, ErrorBody
from opsbus_edge import __version__
from opsbus_edge.asgi import audit_events
from opsbus_edge.asgi.health import HealthReport
from opsbus_edge.catalog import Catalog
from opsbus_edge.model import Caller

_JSON = "application/json"
_ERROR_STATUSES = sorted({info.http for info in CODES.values()} | {405, 408, 415, 421})
_WORDS = {
    400: "The request is not understood.",
    401: "Who calls is not proved.",
    403: "The caller's roles do not allow it.",
    404: "There is no such thing.",
    405: "This method is not allowed at this path.",
    413: "The request is too large.",
    422: "The arguments are not valid; the error names the valid ones.",
    429: "Too many calls.",
    502: "The backend or the worker failed.",
    503: "Nothing was carried out: no worker, no room, or the record cannot take it. Try again.",
    504: "The time is over, or a worker was lost: the error says whether the call had its effect.",
}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 128}}
_CURSOR = {
    "name": "cursor",
    "in": "query",
    "schema": {"type": "string", "maxLength": 4096},
    "description": "next_cursor of the page before.",
}
_RESULT = {
    "type": "object",
    "description": "An MCP tool result. isError: true is the tool's own word that it failed.",
    "required": ["content"],
    "properties": {
        "content": {"type": "array", "items": {"type": "object"}},
        "structuredContent": {},
        "isError": {"type": "boolean"},
    },
}
_ARGUMENTS = {"type": "object", "description": "By the tool's input schema.", "additionalProperties": True}
_TIMEOUT = {"type": ["number", "null"], "minimum": 1, "maximum": 3600, "description": "Seconds at most."}


def document(catalog: Catalog, caller: Caller | None) -> dict[str, Any]:
    """The description. Tools of the catalogue appear for a caller alone who may call them."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {
        "Error": _error_schema(),
        "Health": HealthReport.model_json_schema(ref_template="#/components/schemas/Health/$defs/{model}"),
        "ToolResult": _RESULT,
    }
    paths |= _tool_paths() | _resource_paths() | _platform_paths() | _health_paths()
    if caller is not None:
        for name, tool in catalog.tools().items():
            if caller.sees(tool.spec.permission, name):
                schemas[f"{name}_arguments"] = _moved(tool.spec.input_schema, f"{name}_arguments")
                paths[f"/api/v1/tools/{name}/execute"] = {"post": _tool_operation(name, tool.spec.description)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "opsbus edge",
            "version": __version__,
            "description": "Tools of a company's systems, for programs without MCP. MCP clients use /mcp.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}],
    }


def _error_schema() -> dict[str, Any]:
    body = ErrorBody.model_json_schema(ref_template="#/components/schemas/Error/$defs/{model}", mode="serialization")
    definitions = body.pop("$defs", {})
    return {"type": "object", "required": ["error"], "properties": {"error": body}, "$defs": definitions}


def _errors() -> dict[str, Any]:
    content = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {"description": _WORDS.get(status, "An error; its code says which."), "content": content}
        for status in _ERROR_STATUSES
    }


def _operation(name: str, summary: str, ok: Any, *, parameters: list[Any] | None = None, body: Any = None) -> Any:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": {_JSON: {"schema": ok}}}, **_errors()},
    }
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": False, "content": {_JSON: {"schema": body}}}
    return operation


def _list_of(kind: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [kind, "next_cursor"],
        "properties": {
            kind: {"type": "array", "items": {"type": "object"}},
            "next_cursor": {"type": ["string", "null"]},
        },
    }


def _body(arguments: Any, **more: Any) -> dict[str, Any]:
    properties = {"arguments": arguments, "timeout_s": _TIMEOUT, **more}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _tool_paths() -> dict[str, Any]:
    result = {"$ref": "#/components/schemas/ToolResult"}
    named = {"type": ["string", "null"], "minLength": 1, "maxLength": 128}
    execute = _operation("executeTool", "Call a tool.", result, parameters=[_NAME], body=_body(_ARGUMENTS))
    alias = _operation(
        "executeNamedTool", "Call the tool that the body names.", result, body=_body(_ARGUMENTS, name=named, tool=named)
    )
    return {
        "/api/v1/tools": {
            "get": _operation("listTools", "The tools you may call.", _list_of("tools"), parameters=[_CURSOR])
        },
        "/api/v1/tools/{name}": {
            "get": _operation("getTool", "One tool with its schemas.", {"type": "object"}, parameters=[_NAME])
        },
        "/api/v1/tools/{name}/execute": {"post": execute},
        "/api/v1/mcp/tools/execute": {"post": alias},
        "/api/v1/prompts": {
            "get": _operation("listPrompts", "The prompts you may get.", _list_of("prompts"), parameters=[_CURSOR])
        },
    }


def _resource_paths() -> dict[str, Any]:
    uri = {
        "name": "uri",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 2048},
    }
    contents = {"type": "object", "required": ["contents"], "properties": {"contents": {"type": "array"}}}
    templates = _list_of("resource_templates")
    return {
        "/api/v1/resources": {
            "get": _operation(
                "listResources", "The resources you may read.", _list_of("resources"), parameters=[_CURSOR]
            )
        },
        "/api/v1/resources/templates": {
            "get": _operation("listTemplates", "Families of resources.", templates, parameters=[_CURSOR])
        },
        "/api/v1/resources/read": {"get": _operation("readResource", "Read one.", contents, parameters=[uri])},
    }


def _platform_paths() -> dict[str, Any]:
    services = {"type": "object", "required": ["services"], "properties": {"services": {"type": "object"}}}
    refusals = {"type": "object", "required": ["refusals"], "properties": {"refusals": {"type": "array"}}}
    return {
        "/api/v1/audit/events": {"get": _audit_events()},
        "/api/v1/catalog/services": {"get": _operation("listServices", "Services and their instances.", services)},
        "/api/v1/catalog/refusals": {
            "get": _operation("listRefusals", "Announcements that were not taken, and why.", refusals)
        },
    }


def _audit_events() -> dict[str, Any]:
    operation: dict[str, Any] = _operation(
        "readAuditEvents",
        "The record in order, for a SIEM: a line for each event. Come back with the header Opsbus-Next-Cursor.",
        {},
        parameters=[
            {
                "name": name,
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": 1000} if name == "limit" else {"type": "string"},
            }
            for name in audit_events.PARAMETERS
        ],
    )
    operation["responses"]["200"] = {
        "description": "Events, the oldest first.",
        "headers": {"Opsbus-Next-Cursor": {"schema": {"type": "string"}}},
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
    return operation


def _health_paths() -> dict[str, Any]:
    def open_to_all(name: str, summary: str, schema: Any) -> Any:
        content = {_JSON: {"schema": schema}}
        responses = {"200": {"description": "Fine.", "content": content}}
        responses["503"] = {"description": "Not fine.", "content": content}
        return {"get": {"operationId": name, "summary": summary, "security": [], "responses": responses}}

    ready = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
    live = {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}}
    return {
        "/health": open_to_all("health", "Each dependency.", {"$ref": "#/components/schemas/Health"}),
        "/ready": open_to_all("ready", "Whether requests should come here.", ready),
        "/live": open_to_all("live", "Whether the process runs.", live),
    }


def _tool_operation(name: str, description: str) -> dict[str, Any]:
    operation: dict[str, Any] = _operation(
        name,
        description.split("\n")[0][:200] or name,
        {"$ref": "#/components/schemas/ToolResult"},
        body=_body({"$ref": f"#/components/schemas/{name}_arguments"}),
    )
    return operation | {"description": description, "tags": ["tools"]}


def _moved(schema: Any, name: str) -> Any:
    """A schema with its references turned to its place in the document."""
    if isinstance(schema, list):
        return [_moved(item, name) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, name) for key, value in schema.items() if key not in ("$schema", "$id")}
    reference = moved.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        moved["$ref"] = f"#/components/schemas/{name}{reference[1:]}"
    return moved
