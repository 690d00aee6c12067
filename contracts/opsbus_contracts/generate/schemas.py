"""JSON Schemas of every message model, one document each."""

import json
from typing import Any

from pydantic import BaseModel

from opsbus_contracts import access, audit, calls, catalog, errors, events, identity, sessions

MODELS: dict[str, type[BaseModel]] = {
    "tool_call": calls.ToolCall,
    "resource_read": calls.ResourceRead,
    "prompt_get": calls.PromptGet,
    "completion_complete": calls.CompletionComplete,
    "progress": calls.Progress,
    "log_message": calls.LogMessage,
    "cancel": calls.Cancel,
    "error": errors.ErrorBody,
    "manifest": catalog.Manifest,
    "identity": identity.Identity,
    "audit_event": audit.AuditEvent,
    "event": events.Event,
    "resource_updated": events.ResourceUpdated,
    "catalog_refused": events.CatalogRefused,
    "api_key": access.ApiKey,
    "key_use": access.KeyUse,
    "quarantine": access.Quarantine,
    "session_peer": sessions.PeerClaims,
    "session_request": sessions.SessionRequest,
    "session_response": sessions.SessionResponse,
}
"""Every message by the stem of its schema's file."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) that a reader of the message validates with."""
    document = MODELS[name].model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"opsbus:v1:{name}", **document}


def schema_files() -> dict[str, str]:
    """File name to text, for ``contracts/schemas/v1/``."""
    return {f"{name}.json": json.dumps(schema(name), indent=2, sort_keys=True) + "\n" for name in MODELS}
