"""The nouns of the catalogue: an offer of one instance, the merged entries, a refusal, a page."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import orjson

from opsbus_contracts.catalog import PromptSpec, ResourceSpec, ResourceTemplateSpec, ToolAnnotations


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What is asked of a tool at each call; all else is read out of its bytes. Models of ten thousand tools would take
    thirty megabytes more."""

    name: str
    permission: str
    scope: dict[str, str]
    timeout_s: float
    two_person: bool
    annotations: ToolAnnotations
    wire: bytes
    """As MCP lists it."""
    schema: dict[str, Any] | None = None
    """The input schema, where every call needs it: it declares ``x-mcp-header`` parameters."""

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments; parsed at each reading."""
        if self.schema is not None:
            return self.schema
        found: dict[str, Any] = orjson.loads(self.wire)["inputSchema"]
        return found

    @property
    def description(self) -> str:
        """What it says of itself; parsed at each reading."""
        return str(orjson.loads(self.wire).get("description", ""))


Spec = TypeVar("Spec", ToolFacts, ResourceSpec, ResourceTemplateSpec, PromptSpec, covariant=True)

TOOLS = "tools"
RESOURCES = "resources"
TEMPLATES = "templates"
PROMPTS = "prompts"
KINDS = (TOOLS, RESOURCES, TEMPLATES, PROMPTS)


@dataclass(frozen=True, slots=True)
class Item(Generic[Spec]):
    """One thing that an instance offers. ``key``: MCP name of a tool or prompt, URI or URI template."""

    key: str
    spec: Spec
    wire: bytes
    """As MCP lists it: a JSON object."""
    param_headers: bool = False
    """A tool whose input schema declares ``x-mcp-header`` parameters."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The parts of one instance's manifest that were taken."""

    service: str
    instance: str
    version: str
    started_at: datetime
    title: str | None = None
    description: str = ""
    concurrency: int = 64
    metrics_url: str | None = None
    tools: dict[str, Item[ToolFacts]] = field(default_factory=dict)
    resources: dict[str, Item[ResourceSpec]] = field(default_factory=dict)
    templates: dict[str, Item[ResourceTemplateSpec]] = field(default_factory=dict)
    prompts: dict[str, Item[PromptSpec]] = field(default_factory=dict)
    completions: frozenset[str] = frozenset()

    def items(self, kind: str) -> dict[str, Item[Any]]:
        """The items of a kind, by key."""
        return getattr(self, kind)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An announcement, or part of one, that was not taken, and why."""

    service: str
    instance: str
    item: str
    """The tool, resource or prompt; empty: the whole manifest."""
    reason: str


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool that at least one live worker offers."""

    name: str
    """MCP name: ``k8s_get_pods``."""
    service: str
    version: str
    """Of the newest instance that offers it; its spec is the one that counts."""
    spec: ToolFacts
    instances: tuple[str, ...]
    param_headers: bool
    """Whether the input schema declares ``x-mcp-header`` parameters."""
    two_person: bool
    """Whether every instance that offers it waits for a second person where the policy wants one."""
    wire: bytes

    @property
    def mutating(self) -> bool:
        """Whether a call may change something."""
        return not self.spec.annotations.read_only

    @property
    def repeatable(self) -> bool:
        """Whether running it twice does no harm: a lost call may move to another instance."""
        return self.spec.annotations.read_only or self.spec.annotations.idempotent


@dataclass(frozen=True, slots=True)
class ResourceEntry:
    """A resource, or the template that a URI matched."""

    service: str
    version: str
    spec: ResourceSpec | ResourceTemplateSpec
    instances: tuple[str, ...]
    completions: frozenset[str]
    wire: bytes


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """A prompt."""

    name: str
    """MCP name: ``k8s_triage``."""
    service: str
    version: str
    spec: PromptSpec
    instances: tuple[str, ...]
    completions: frozenset[str]
    """What its service completes: ``prompt:<name>:<argument>``."""
    wire: bytes


Entry = ToolEntry | ResourceEntry | PromptEntry


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list as a caller may see it."""

    items_json: bytes
    """A JSON array of MCP objects."""
    next_cursor: str | None
