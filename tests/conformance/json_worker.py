"""Worker ``json``: the tool whose raw JSON Schema 2020-12 must reach clients unchanged."""

from typing import Any

from opsbus import Context, Text, ToolResult, Worker

worker = Worker("json", version="1.0.0", title="JSON Schema fixture")

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@worker.tool(permission="json:read", read_only=True, input_schema=SCHEMA)
async def schema_2020_12_tool(ctx: Context[Any], arguments: dict[str, Any]) -> ToolResult:
    """Tool with JSON Schema 2020-12 features."""
    return ToolResult(content=[Text(f"contact by {arguments.get('contactMethod', 'email')}")])
