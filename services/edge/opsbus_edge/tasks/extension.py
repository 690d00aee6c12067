"""The extension's name, and who declared it."""

from collections.abc import Mapping
from typing import Any

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.model import error_body

EXTENSION = "io.modelcontextprotocol/tasks"


def declares(capabilities: Mapping[str, Any]) -> bool:
    """Whether a client declared the extension on this very request."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, Mapping) and isinstance(extensions.get(EXTENSION), Mapping)


def missing() -> ErrorBody:
    """The error for one that did not, and asks for tasks all the same."""
    return error_body(
        ErrorCode.MISSING_CAPABILITY,
        "This request needs a client that declares the tasks extension.",
        hint=f"Declare {EXTENSION} in the request's clientCapabilities.extensions.",
        details={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
    )
