"""The record: what happened to every call, on its way into the stream AUDIT."""

from opsbus_edge.audit.log import AuditLog
from opsbus_edge.audit.queue import Queue
from opsbus_edge.audit.spool import Spool, SpoolError

__all__ = ["AuditLog", "Queue", "Spool", "SpoolError"]
