"""What travels on the bus, and nothing else: subjects, models, error codes, streams, permissions.

Everything that other files state about the bus (JSON Schemas, AsyncAPI, NATS permissions, the README's table) is
generated from here by ``python -m opsbus_contracts``. No transport, no I/O and no dependency but pydantic live here.
"""

from opsbus_contracts.access import ApiKey, ApprovalDecision, ApprovalRequest, KeyUse, Quarantine, QuarantineKind
from opsbus_contracts.audit import AuditEvent, AuditRecord, PlatformStage, Stage
from opsbus_contracts.calls import (
    Cancel,
    ClientInfo,
    CompletionComplete,
    Header,
    LogMessage,
    Progress,
    PromptGet,
    ResourceRead,
    Status,
    ToolCall,
)
from opsbus_contracts.catalog import Manifest, PromptSpec, ResourceSpec, ResourceTemplateSpec, ToolSpec
from opsbus_contracts.errors import CODES, ErrorBody, ErrorCode, Executed
from opsbus_contracts.events import CatalogRefused, Event, ResourceUpdated
from opsbus_contracts.identity import Grant, Identity

__all__ = [
    "CODES",
    "ApiKey",
    "ApprovalDecision",
    "ApprovalRequest",
    "AuditEvent",
    "AuditRecord",
    "Cancel",
    "CatalogRefused",
    "ClientInfo",
    "CompletionComplete",
    "ErrorBody",
    "ErrorCode",
    "Event",
    "Executed",
    "Grant",
    "Header",
    "Identity",
    "KeyUse",
    "LogMessage",
    "Manifest",
    "PlatformStage",
    "Progress",
    "PromptGet",
    "PromptSpec",
    "Quarantine",
    "QuarantineKind",
    "ResourceRead",
    "ResourceSpec",
    "ResourceTemplateSpec",
    "ResourceUpdated",
    "Stage",
    "Status",
    "ToolCall",
    "ToolSpec",
]
