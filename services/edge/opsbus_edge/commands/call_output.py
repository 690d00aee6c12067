"""Results of ``opsbus call`` on the terminal: text for people, JSON for programs. Nothing but results on stdout."""

import json
from collections.abc import Mapping

import typer
from mcp_types import (
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)


def show_result(result: CallToolResult, *, as_json: bool) -> None:
    """Prints a result; one that is an error goes to stderr, unless JSON is wanted."""
    if as_json:
        dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta"})
        wanted = dumped.get("structuredContent", dumped) if not result.is_error else dumped
        typer.echo(json.dumps(wanted, indent=2, ensure_ascii=False))
        return
    for block in result.content:
        typer.echo(_text(block), err=bool(result.is_error))
    if not result.content and result.structured_content is not None:
        typer.echo(json.dumps(result.structured_content, indent=2, ensure_ascii=False))


def show_tools(tools: Mapping[str, Tool], *, as_json: bool) -> None:
    """Prints the tools that may be called."""
    if as_json:
        listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools.values()]
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    width = max((len(name) for name in tools), default=0)
    for name, tool in tools.items():
        typer.echo(f"{name:<{width}}  {(tool.description or '').strip().splitlines()[0] if tool.description else ''}")
    if not tools:
        typer.echo("no tools: none is offered, or none is allowed to you", err=True)


def _text(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ResourceLink):
        return f"[{block.name}: {block.uri}]"
    if isinstance(block, EmbeddedResource):
        inside = block.resource
        return inside.text if isinstance(inside, TextResourceContents) else f"[{inside.mime_type}: {inside.uri}]"
    return f"[{block.mime_type}, {len(block.data) * 3 // 4} bytes]"
