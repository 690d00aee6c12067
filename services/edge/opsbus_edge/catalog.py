"""What workers offer, as the edge knows it now."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opsbus_contracts.catalog import PromptSpec, ResourceSpec, ResourceTemplateSpec, ToolSpec
from opsbus_edge.model import Caller


class InvalidCursorError(ValueError):
    """A cursor that no list page gave out: -32602."""


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool that at least one live worker offers."""

    name: str
    """MCP name: ``k8s_get_pods``."""
    service: str
    version: str
    spec: ToolSpec
    instances: tuple[str, ...]
    param_headers: bool
    """Whether the input schema declares ``x-mcp-header`` parameters."""


@dataclass(frozen=True, slots=True)
class ResourceEntry:
    """A resource, or the template that a URI matched."""

    service: str
    version: str
    spec: ResourceSpec | ResourceTemplateSpec
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """A prompt."""

    name: str
    """MCP name: ``k8s_triage``."""
    service: str
    version: str
    spec: PromptSpec
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list as a caller may see it."""

    items_json: bytes
    """A JSON array of MCP objects."""
    next_cursor: str | None


class Catalog:
    """Fed by the KV watch; reads are synchronous look-ups and cached bytes."""

    def tool(self, mcp_name: str) -> ToolEntry | None:
        raise NotImplementedError

    def resource(self, uri: str) -> ResourceEntry | None:
        """The resource with this URI, or the first template (by name) that matches it."""
        raise NotImplementedError

    def template(self, uri_template: str) -> ResourceEntry | None:
        """The template with exactly this text (completion refs)."""
        raise NotImplementedError

    def prompt(self, mcp_name: str) -> PromptEntry | None:
        raise NotImplementedError

    def tools_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        """A page of the tools the caller may call.

        Raises:
            InvalidCursorError: the cursor is not one of ours.
        """
        raise NotImplementedError

    def resources_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        raise NotImplementedError

    def templates_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        raise NotImplementedError

    def prompts_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        raise NotImplementedError

    def subscribe(self, callback: Callable[[set[str]], None]) -> Callable[[], None]:
        """Call back with the kinds that changed, of ``tools``, ``resources``, ``prompts``; returns the unsubscribe."""
        raise NotImplementedError

    def services(self) -> dict[str, Any]:
        """Services by token with their live instances and versions."""
        raise NotImplementedError
