"""What a worker announces: its manifest with tools, resources, prompts. Merging manifests is the edge's matter."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from opsbus_contracts.model import Message
from opsbus_contracts.names import INSTANCE_PATTERN, SERVICE_PATTERN, TOOL_PATTERN

CATALOG_TTL_S = 6.0
"""A manifest that is not put again for this long is gone. Seconds; a worker puts it every third of it."""

MANIFEST_BYTES_MAX = 512_000
"""A larger manifest is refused. Bytes."""


class ToolAnnotations(Message):
    """MCP's four hints, all of them set, truthfully."""

    title: str | None = None
    read_only: bool = Field(alias="readOnlyHint")
    destructive: bool = Field(alias="destructiveHint")
    idempotent: bool = Field(alias="idempotentHint")
    open_world: bool = Field(alias="openWorldHint")


class ToolSpec(Message):
    """A tool as announced; its MCP name is made of service and name."""

    name: str = Field(pattern=TOOL_PATTERN)
    title: str | None = None
    description: str = Field(default="", max_length=8_000)
    input_schema: dict[str, Any] = Field(alias="inputSchema")
    output_schema: dict[str, Any] | None = Field(default=None, alias="outputSchema")
    annotations: ToolAnnotations
    permission: str = Field(min_length=1, max_length=128, description="What a caller needs: ``k8s:get``.")
    scope: dict[str, str] = Field(
        default_factory=dict,
        description="Which argument says what a call touches, by dimension: ``{namespace: target_namespace}``."
        " Arguments named like a dimension (cluster, namespace, environment, service) or its plural need no word.",
    )
    timeout_s: float = Field(default=30.0, gt=0, le=3600, description="A call ends after this long. Seconds.")
    two_person: bool = Field(
        default=False,
        description="The worker waits for a second person where the policy wants one; else such calls are refused.",
    )
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class ResourceSpec(Message):
    """A resource with a fixed URI."""

    uri: str = Field(min_length=1, max_length=2048)
    name: str = Field(min_length=1, max_length=128)
    title: str | None = None
    description: str = ""
    mime_type: str | None = Field(default=None, alias="mimeType")
    permission: str = Field(min_length=1, max_length=128)
    subscribable: bool = False
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class ResourceTemplateSpec(Message):
    """A family of resources by RFC 6570 level 1 template."""

    uri_template: str = Field(alias="uriTemplate", min_length=1, max_length=2048)
    name: str = Field(min_length=1, max_length=128)
    title: str | None = None
    description: str = ""
    mime_type: str | None = Field(default=None, alias="mimeType")
    permission: str = Field(min_length=1, max_length=128)
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class PromptArgument(Message):
    """One argument of a prompt."""

    name: str = Field(min_length=1, max_length=128)
    description: str = ""
    required: bool = False


class PromptSpec(Message):
    """A prompt; its MCP name is made of service and name."""

    name: str = Field(pattern=TOOL_PATTERN)
    title: str | None = None
    description: str = ""
    arguments: list[PromptArgument] = Field(default_factory=list)
    permission: str = Field(min_length=1, max_length=128)
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class Manifest(Message):
    """``$KV.CATALOG.<service>.<instance>``: what one instance of a worker offers."""

    manifest: Literal[1] = Field(default=1, description="Version of this model.")
    service: str = Field(pattern=SERVICE_PATTERN)
    instance: str = Field(pattern=INSTANCE_PATTERN)
    version: str = Field(min_length=1, max_length=64)
    title: str | None = None
    description: str = ""
    started_at: datetime
    concurrency: int = Field(default=64, ge=1, description="Calls the instance runs at once.")
    metrics_url: str | None = Field(default=None, description="Where its /metrics answers.")
    schema_hash: str = Field(
        default="", description="SHA-256 hex over tools, resources and prompts; equal: same offer."
    )
    tools: list[ToolSpec] = Field(default_factory=list, max_length=2_000)
    resources: list[ResourceSpec] = Field(default_factory=list, max_length=2_000)
    resource_templates: list[ResourceTemplateSpec] = Field(default_factory=list, max_length=500)
    prompts: list[PromptSpec] = Field(default_factory=list, max_length=500)
    completions: list[str] = Field(
        default_factory=list, description="``prompt:<name>:<argument>`` or ``resource:<template>:<variable>``."
    )
