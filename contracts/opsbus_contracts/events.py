"""Domain events: CloudEvents 1.0 in JSON on ``event.<source>.<kind>``. Audit events live in audit.py."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from opsbus_contracts.model import Message


class CloudEvent(Message):
    """The CloudEvents 1.0 envelope (structured mode)."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=64, description="Unique with ``source``; also the Nats-Msg-Id.")
    source: str = Field(min_length=1, description="``/opsbus/<service>/<instance>``")
    type: str = Field(min_length=1, description="``opsbus.<family>.v1.<kind>``")
    subject: str | None = None
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None


class Event(CloudEvent):
    """``event.<source>.<kind>``: something was seen."""

    data: dict[str, Any] = Field(default_factory=dict)


class ResourceUpdated(Message):
    """``data`` of ``event.<source>.resource_updated``: subscribers of the URI are told."""

    uri: str


class CatalogRefused(Message):
    """``data`` of ``event.edge.catalog_refused``: an announcement, or part of one, was not taken."""

    service: str
    instance: str
    item: str = Field(default="", description="The tool, resource or prompt; empty: the whole manifest.")
    reason: str
