"""The record: what happened to every call, on its way into the stream AUDIT."""

from opsbus_edge.audit.log import AuditLog

__all__ = ["AuditLog"]
