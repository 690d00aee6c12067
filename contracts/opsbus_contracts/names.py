"""The rules of names: service, tool and instance tokens, and how a tool's MCP name is made of them."""

import re

SERVICE_PATTERN = r"^[a-z][a-z0-9_-]{0,30}$"
"""A service token, one subject token: ``k8s``."""

TOOL_PATTERN = r"^[a-z][a-z0-9_]{0,60}$"
"""A tool token, one subject token: ``get_pods``."""

INSTANCE_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""An instance id, one subject token, new at every start: ``k8s-4f1c0a9b``."""

MCP_NAME_PATTERN = r"^[a-zA-Z0-9_]{1,64}$"
"""What every model vendor's function calling accepts."""

_MCP_NAME = re.compile(MCP_NAME_PATTERN)


def mcp_name(service: str, tool: str) -> str:
    """The name an MCP client sees: ``k8s`` and ``get_pods`` give ``k8s_get_pods``.

    Raises:
        ValueError: the name is longer than 64 characters or has others than letters, digits and underscores.
    """
    name = f"{service.replace('-', '_')}_{tool}"
    if not _MCP_NAME.fullmatch(name):
        raise ValueError(f"the MCP name {name!r} must be 1 to 64 letters, digits and underscores")
    return name
