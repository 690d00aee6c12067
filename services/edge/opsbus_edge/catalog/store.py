"""The catalogue: manifests are put in, taken out; everything asks it. Watching the bucket is watch.py's matter."""

import hashlib
from collections.abc import Callable
from typing import Any

from mcp.shared.uri_template import UriTemplate

from opsbus import logs
from opsbus_edge.catalog.entries import (
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    Listing,
    Offer,
    PromptEntry,
    Refusal,
    ResourceEntry,
    ToolEntry,
)
from opsbus_edge.catalog.merge import Merged, merge
from opsbus_edge.catalog.pages import Pages
from opsbus_edge.catalog.parse import parse_manifest
from opsbus_edge.model import Caller

log = logs.get("edge")

PAGE_SIZE = 1_000
INSTANCES_MAX = 5_000
"""Instances known at once."""

Parsed = tuple[Offer | None, list[Refusal]]
Told = Callable[[set[str]], None]


class Catalog:
    """What workers offer. Reads are synchronous look-ups and cached bytes; writes rebuild, then tell who subscribed."""

    def __init__(self, page_size: int = PAGE_SIZE, on_refused: Callable[[Refusal], None] | None = None) -> None:
        self._page_size = page_size
        self._on_refused = on_refused
        self._offers: dict[str, tuple[bytes, Offer | None, list[Refusal]]] = {}
        self._merged = Merged()
        self._pages = Pages(self._merged, page_size)
        self._templates: list[tuple[UriTemplate, ResourceEntry]] = []
        self._subscribers: dict[int, Told] = {}
        self._subscribed = 0
        self.refusals: tuple[Refusal, ...] = ()
        """What is refused now, sorted."""
        self.ready = False
        """Whether the bucket has been read once."""

    # reads

    def tool(self, mcp_name: str) -> ToolEntry | None:
        """The tool of this MCP name."""
        return self._merged.tools.get(mcp_name)

    def prompt(self, mcp_name: str) -> PromptEntry | None:
        """The prompt of this MCP name."""
        return self._merged.prompts.get(mcp_name)

    def resource(self, uri: str) -> ResourceEntry | None:
        """The resource with this URI, or the first template, in the order of their text, that matches it."""
        found = self._merged.resources.get(uri)
        if found is not None:
            return found
        for template, entry in self._templates:
            if template.match(uri) is not None:
                return entry
        return None

    def template(self, uri_template: str) -> ResourceEntry | None:
        """The template of exactly this text (completion refs)."""
        return self._merged.templates.get(uri_template)

    def tool_names(self) -> list[str]:
        """All MCP names of tools."""
        return list(self._merged.tools)

    def tools(self) -> dict[str, ToolEntry]:
        """All tools by MCP name, sorted. Not to be changed."""
        return self._merged.tools

    def tools_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        """A page of the tools that the caller may call.

        Raises:
            InvalidCursorError: the cursor is not one of this list.
        """
        return self._pages.page(TOOLS, caller, cursor)

    def resources_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        """A page of the resources that the caller may read; raises as tools_page."""
        return self._pages.page(RESOURCES, caller, cursor)

    def templates_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        """A page of the resource templates that the caller may read; raises as tools_page."""
        return self._pages.page(TEMPLATES, caller, cursor)

    def prompts_page(self, caller: Caller, cursor: str | None = None) -> Listing:
        """A page of the prompts that the caller may get; raises as tools_page."""
        return self._pages.page(PROMPTS, caller, cursor)

    def places(self, service: str) -> int:
        """Calls that the live instances of a service run at once."""
        return self._merged.places.get(service, 0)

    def services(self) -> dict[str, dict[str, Any]]:
        """Services by token: ``{"instances": {instance: version}, "tools": number}``."""
        found: dict[str, dict[str, Any]] = {}
        for _, offer, _ in self._offers.values():
            if offer is not None:
                service = found.setdefault(offer.service, {"instances": {}, "tools": 0})
                service["instances"][offer.instance] = offer.version
        for tool in self._merged.tools.values():
            found[tool.service]["tools"] += 1
        return dict(sorted(found.items()))

    def subscribe(self, callback: Told) -> Callable[[], None]:
        """Call back with the kinds that changed, of ``tools``, ``resources``, ``prompts``.

        Returns:
            The function that ends it.
        """
        self._subscribed += 1
        number = self._subscribed
        self._subscribers[number] = callback
        return lambda: self._subscribers.pop(number, None) and None

    # writes

    def keys(self) -> list[str]:
        """The keys (``<service>.<instance>``) that are known."""
        return list(self._offers)

    def is_new(self, key: str, raw: bytes) -> bool:
        """Whether this manifest differs from what is known under the key. Workers put the same one again and again."""
        known = self._offers.get(key)
        return known is None or known[0] != _digest(raw)

    def put(self, key: str, raw: bytes, parsed: Parsed | None = None) -> bool:
        """Take a manifest; True when it says something new. ``rebuild`` makes it visible.

        Args:
            key: ``<service>.<instance>``
            raw: The manifest's bytes.
            parsed: What ``parse_manifest(key, raw)`` returned, where it was called elsewhere.
        """
        if not self.is_new(key, raw):
            return False
        if key not in self._offers and len(self._offers) >= INSTANCES_MAX:
            log.warning("catalogue full", key=key, instances_max=INSTANCES_MAX)
            return False
        offer, refusals = parsed or parse_manifest(key, raw)
        self._offers[key] = (_digest(raw), offer, refusals)
        return True

    def remove(self, key: str) -> bool:
        """Forget an instance; True when it was known."""
        return self._offers.pop(key, None) is not None

    def rebuild(self) -> set[str]:
        """Merge what is known, tell of refusals and changes; returns the kinds that changed."""
        before = self._merged
        merged = merge(offer for _, offer, _ in self._offers.values() if offer is not None)
        merged.refusals.update(refusal for _, _, refusals in self._offers.values() for refusal in refusals)
        self._merged = merged
        self._pages = Pages(merged, self._page_size)
        self._templates = [(UriTemplate.parse(text), entry) for text, entry in merged.templates.items()]
        self._tell_refusals(before.refusals, merged.refusals)
        changed = _changed(before, merged)
        if changed:
            self._tell(changed)
        return changed

    def _tell_refusals(self, before: set[Refusal], now: set[Refusal]) -> None:
        self.refusals = tuple(sorted(now, key=lambda r: (r.service, r.instance, r.item, r.reason)))
        for refusal in self.refusals:
            if refusal not in before:
                log.warning(
                    "catalogue: refused",
                    by=f"{refusal.service}.{refusal.instance}",
                    item=refusal.item or "the manifest",
                    reason=refusal.reason,
                )
                if self._on_refused is not None:
                    self._on_refused(refusal)

    def seen_anew(self) -> None:
        """Who sees what has changed, though the catalogue has not: tell the subscribers."""
        self._tell({TOOLS, RESOURCES, PROMPTS})

    def _tell(self, changed: set[str]) -> None:
        for callback in list(self._subscribers.values()):
            try:
                callback(set(changed))
            except Exception as error:
                log.exception("catalogue: a subscriber failed", error)


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


def _changed(before: Merged, now: Merged) -> set[str]:
    """Kinds, in MCP's words, of which what is listed or who may see it differs."""

    def face(merged: Merged, kind: str) -> dict[str, tuple[bytes, str]]:
        return {key: (entry.wire, entry.spec.permission) for key, entry in merged.entries(kind).items()}

    changed = {kind for kind in (TOOLS, RESOURCES, PROMPTS) if face(before, kind) != face(now, kind)}
    if face(before, TEMPLATES) != face(now, TEMPLATES):
        changed.add(RESOURCES)
    return changed
