"""What workers offer, as this edge knows it now: manifests in, look-ups and list pages out."""

from opsbus_edge.catalog.entries import Listing, PromptEntry, Refusal, ResourceEntry, ToolEntry
from opsbus_edge.catalog.pages import InvalidCursorError
from opsbus_edge.catalog.store import Catalog

__all__ = ["Catalog", "InvalidCursorError", "Listing", "PromptEntry", "Refusal", "ResourceEntry", "ToolEntry"]
