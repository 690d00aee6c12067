"""From what a function returned to the MCP result on the wire: checked, and never larger than its budget."""

from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from opsbus.content import Block, PromptMessage, ResourceContents, ToolResult
from opsbus.content import _Block as AnyBlock
from opsbus.page import Page
from opsbus.registry import Prompt, Resource, Tool
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed
from opsbus_contracts.calls import BODY_BYTES_MAX

COMPLETIONS_MAX = 100
"""MCP's bound on the values of one completion."""

_BLOCKS: TypeAdapter[list[Any]] = TypeAdapter(list[Block])
_MESSAGES: TypeAdapter[list[PromptMessage]] = TypeAdapter(list[PromptMessage])
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def tool_body(tool: Tool, value: Any) -> tuple[bytes, bool]:
    """The CallToolResult's JSON, and whether the tool says it failed.

    Raises:
        ToolError: ``bad_reply`` for a value that breaks the tool's own promise, ``result_too_large`` over the budget.
    """
    if isinstance(value, ToolResult):
        return _shaped(tool, value)
    if isinstance(value, AnyBlock) or _all_blocks(value):
        return _shaped(tool, ToolResult(content=value if isinstance(value, list) else [value]))
    if value is None and tool.returns.schema is None:
        return _compose(_text("Done."), None, False, None), False
    structured = _fitted(tool, value)
    text = value.to_text() if hasattr(value, "to_text") else value if isinstance(value, str) else structured.decode()
    if tool.returns.wrapped or not structured.startswith(b"{"):
        structured = b'{"result":' + structured + b"}"
    return _bounded(_compose(_text(_cut(text, tool.budget_bytes)), structured, False, None)), False


def resource_body(resource: Resource, uri: str, value: Any) -> bytes:
    """The ReadResourceResult's JSON.

    Raises:
        ToolError: ``bad_reply``, ``result_too_large``.
    """
    mime_type = resource.spec.mime_type
    try:
        if isinstance(value, ResourceContents):
            contents = value
        elif isinstance(value, str | bytes):
            contents = ResourceContents.of(uri, value, mime_type)
        else:
            text = _ANY.dump_json(value, by_alias=True).decode()
            contents = ResourceContents.of(uri, text, mime_type or "application/json")
    except (ValidationError, ValueError) as error:
        raise _bad_reply(f"the resource {uri}", error) from error
    body = contents.model_dump_json(exclude_none=True).encode()
    return _bounded(b'{"resultType":"complete","contents":[' + body + b'],"ttlMs":0,"cacheScope":"private"}')


def prompt_body(prompt: Prompt, value: Any) -> bytes:
    """The GetPromptResult's JSON.

    Raises:
        ToolError: ``bad_reply``, ``result_too_large``.
    """
    items = value if isinstance(value, list) else [value]
    try:
        messages = [PromptMessage(item) if isinstance(item, str | AnyBlock) else item for item in items]
        body = _MESSAGES.dump_json(_MESSAGES.validate_python(messages), by_alias=True, exclude_none=True)
    except (ValidationError, ValueError) as error:
        raise _bad_reply(f"the prompt {prompt.spec.name}", error) from error
    description = orjson.dumps(prompt.spec.description.split("\n")[0])
    return _bounded(b'{"resultType":"complete","description":' + description + b',"messages":' + body + b"}")


def completion_body(values: Any) -> bytes:
    """The CompleteResult's JSON; more than 100 values are cut, and said to be.

    Raises:
        ToolError: ``bad_reply``.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise _bad_reply("the completion", TypeError("no list of strings"))
    return orjson.dumps(
        {
            "resultType": "complete",
            "completion": {
                "values": list(values[:COMPLETIONS_MAX]),
                "total": len(values),
                "hasMore": len(values) > COMPLETIONS_MAX,
            },
        }
    )


def _shaped(tool: Tool, result: ToolResult) -> tuple[bytes, bool]:
    """A result the tool shaped itself."""
    try:
        blocks = _BLOCKS.validate_python(result.content)
        content = _BLOCKS.dump_json(blocks, by_alias=True, exclude_none=True)
        structured = None
        if result.structured is not None:
            if tool.returns.schema is not None and not result.is_error:
                structured = _fitted(tool, result.structured)
            else:
                structured = _ANY.dump_json(result.structured, by_alias=True)
        elif tool.returns.schema is not None and not result.is_error:
            raise ValueError("the tool has an output schema, and the result no structured content")
    except (ValidationError, ValueError) as error:
        raise _bad_reply(f"the tool {tool.spec.name}", error) from error
    if structured is not None and len(structured) > tool.budget_bytes:
        raise _too_large(len(structured), tool.budget_bytes)
    if structured is not None and not structured.startswith(b"{"):
        structured = b'{"result":' + structured + b"}"
    return _bounded(_compose(content, structured, result.is_error, result.meta)), result.is_error


def _fitted(tool: Tool, value: Any) -> bytes:
    """The value's JSON within the budget; a page loses whole items to fit, and says so."""
    try:
        structured = tool.returns.dump(value)
    except (ValidationError, ValueError) as error:
        raise _bad_reply(f"the tool {tool.spec.name}", error) from error
    if len(structured) > tool.budget_bytes and isinstance(value, Page):
        fitted = Page[Any].fit(
            value.items,
            budget_bytes=tool.budget_bytes,
            total=value.page.total if value.page.total is not None else len(value.items),
            warnings=value.warnings,
            source=value.source,
            as_of=value.as_of,
        )
        changed = {"items": fitted.items, "page": fitted.page, "warnings": fitted.warnings}
        structured = tool.returns.dump(value.model_copy(update=changed))
    if len(structured) > tool.budget_bytes:
        raise _too_large(len(structured), tool.budget_bytes)
    return structured


def _compose(content: bytes, structured: bytes | None, is_error: bool, meta: dict[str, Any] | None) -> bytes:
    parts = [b'{"resultType":"complete","content":', content]
    if structured is not None:
        parts += [b',"structuredContent":', structured]
    parts.append(b',"isError":true' if is_error else b',"isError":false')
    if meta:
        parts += [b',"_meta":', _ANY.dump_json(meta)]
    parts.append(b"}")
    return b"".join(parts)


def _text(text: str) -> bytes:
    return orjson.dumps([{"type": "text", "text": text}])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "... (cut here; the structured content is whole)"


def _all_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, AnyBlock) for item in value)


def _bounded(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise _too_large(len(body), BODY_BYTES_MAX)
    return body


def _too_large(size: int, most: int) -> ToolError:
    return ToolError(
        ErrorCode.RESULT_TOO_LARGE,
        f"the result has {size} bytes, {most} are allowed",
        hint="Narrow the call: a filter, a smaller limit, a shorter time.",
        executed=Executed.YES,
        details={"bytes": size, "bytes_max": most},
    )


def _bad_reply(what: str, error: Exception) -> ToolError:
    """The worker's own fault; the caller learns that, not the value."""
    return ToolError(
        ErrorCode.BAD_REPLY,
        f"{what} did not return what it promised",
        hint="Report it to the service's owners.",
        executed=Executed.YES,
        details={"problem": _problem(error)},
    )


def _problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:300]
    return str(error)[:300]
