"""What is hidden before an event leaves the edge: by the name of a field, by its path, by the look of its value."""

from opsbus_edge.redact.mark import DigestKey
from opsbus_edge.redact.paths import PathRule, path_rule
from opsbus_edge.redact.patterns import Patterns, pattern
from opsbus_edge.redact.redactor import BYTES_MAX, Kept, Redactor

__all__ = ["BYTES_MAX", "DigestKey", "Kept", "PathRule", "Patterns", "Redactor", "path_rule", "pattern"]
