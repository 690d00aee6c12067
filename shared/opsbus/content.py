"""Content of results and prompts, in MCP's shapes: text, image, audio, resource link, embedded resource.

No transport lives here.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _check_base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("must be base64") from error
    return value


Base64 = Annotated[str, AfterValidator(_check_base64)]
MimeType = Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+(\s*;.*)?$")]


class _Part(BaseModel):
    """Shapes are MCP's; unknown fields are refused, for a misspelt one would be lost silently at the client."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


class Annotations(_Part):
    """Who content is for and how much it matters."""

    audience: list[Literal["user", "assistant"]] | None = None
    priority: float | None = Field(default=None, ge=0, le=1)
    last_modified: str | None = Field(default=None, alias="lastModified")


class _Block(_Part):
    annotations: Annotations | None = None
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class Text(_Block):
    """Plain text."""

    type: Literal["text"] = "text"
    text: str

    def __init__(self, text: str | None = None, **fields: Any) -> None:
        super().__init__(**({} if text is None else {"text": text}), **fields)


class Image(_Block):
    """A picture; ``data`` is base64. ``Image.of(raw, mime)`` encodes."""

    type: Literal["image"] = "image"
    data: Base64
    mime_type: MimeType = Field(alias="mimeType")

    @classmethod
    def of(cls, data: bytes, mime_type: str) -> "Image":
        """An image of raw bytes."""
        return cls(data=base64.b64encode(data).decode(), mime_type=mime_type)


class Audio(_Block):
    """A sound; ``data`` is base64. ``Audio.of(raw, mime)`` encodes."""

    type: Literal["audio"] = "audio"
    data: Base64
    mime_type: MimeType = Field(alias="mimeType")

    @classmethod
    def of(cls, data: bytes, mime_type: str) -> "Audio":
        """Audio of raw bytes."""
        return cls(data=base64.b64encode(data).decode(), mime_type=mime_type)


class ResourceLink(_Block):
    """A link to a resource that the client may read."""

    type: Literal["resource_link"] = "resource_link"
    uri: str = Field(min_length=1)
    name: str = Field(min_length=1)
    title: str | None = None
    description: str | None = None
    mime_type: MimeType | None = Field(default=None, alias="mimeType")
    size: int | None = Field(default=None, ge=0, description="Bytes.")


class ResourceContents(_Part):
    """What is at a URI: text, or bytes in base64."""

    uri: str = Field(min_length=1)
    mime_type: MimeType | None = Field(default=None, alias="mimeType")
    text: str | None = None
    blob: Base64 | None = None
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")

    @model_validator(mode="after")
    def _one_of(self) -> "ResourceContents":
        if (self.text is None) == (self.blob is None):
            raise ValueError("exactly one of text and blob must be given")
        return self

    @classmethod
    def of(cls, uri: str, data: str | bytes, mime_type: str | None = None) -> "ResourceContents":
        """Contents of text or raw bytes."""
        if isinstance(data, str):
            return cls(uri=uri, mime_type=mime_type or "text/plain", text=data)
        return cls(uri=uri, mime_type=mime_type or "application/octet-stream", blob=base64.b64encode(data).decode())


class Embedded(_Block):
    """A resource inside the result. ``Embedded.of(uri, data, mime)`` builds one."""

    type: Literal["resource"] = "resource"
    resource: ResourceContents

    @classmethod
    def of(cls, uri: str, data: str | bytes, mime_type: str | None = None) -> "Embedded":
        """An embedded resource of text or raw bytes."""
        return cls(resource=ResourceContents.of(uri, data, mime_type))


Block = Annotated[Text | Image | Audio | ResourceLink | Embedded, Field(discriminator="type")]
"""Any content block."""


class PromptMessage(_Part):
    """One message of a prompt. A plain string is its text."""

    role: Literal["user", "assistant"] = "user"
    content: Block

    def __init__(self, content: Any = None, role: str = "user", **fields: Any) -> None:
        if isinstance(content, str):
            content = Text(content)
        given: dict[str, Any] = {"role": role, "content": content, **fields}
        super().__init__(**given)


class ToolResult(_Part):
    """A result a tool shapes itself.

    ``is_error`` tells the model that the tool failed, with the content as the reason.
    """

    content: list[Block] = Field(default_factory=list)
    structured: Any = None
    is_error: bool = False
    meta: dict[str, Any] | None = None
