"""The tools that the suite's scenarios for tasks ask for. A tool's name begins with its service: so many workers.

``greet`` cannot be a name here, for it has no service; it is ``test_greet`` (test_tasks_scenarios.py renames it).
"""

import asyncio
from typing import Any

from opsbus import Context, Elicit, ErrorCode, Text, ToolError, ToolResult, Worker

WORK_S = 1.0
"""Longer than the edge of these tests waits before it makes a task."""
EXTENSION = "io.modelcontextprotocol/tasks"


def said(text: str) -> ToolResult:
    """A result of plain text."""
    return ToolResult(content=[Text(text)])


def form(message: str, **properties: Any) -> Elicit[Any]:
    """A form of which every field is required."""
    return Elicit(message, schema={"type": "object", "properties": properties, "required": list(properties)})


slow = Worker("slow", version="1.0.0")
failing = Worker("failing", version="1.0.0")
protocol = Worker("protocol", version="1.0.0")
confirm = Worker("confirm", version="1.0.0")
multi = Worker("multi", version="1.0.0")
test = Worker("test", version="1.0.0")
WORKERS = (slow, failing, protocol, confirm, multi, test)


@slow.tool(permission="slow:read", read_only=True)
async def compute(ctx: Context[Any], seconds: float, label: str = "") -> ToolResult:
    """Takes as long as it is told to."""
    await asyncio.sleep(seconds)
    return said(f"computed {label} in {seconds:g} s")


@failing.tool(permission="failing:read", read_only=True)
async def job(ctx: Context[Any]) -> ToolResult:
    """Fails after a while, and serves nobody who would have to wait for that."""
    if EXTENSION not in (ctx.client.capabilities.get("extensions") or {}):
        raise ToolError(
            ErrorCode.MISSING_CAPABILITY,
            "this job is for clients that poll for it",
            details={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
        )
    await asyncio.sleep(WORK_S)
    raise ToolError(ErrorCode.NOT_FOUND, "the job has failed")


@protocol.tool(permission="protocol:read", read_only=True)
async def error_job(ctx: Context[Any]) -> ToolResult:
    """Fails with an error of the protocol."""
    await asyncio.sleep(WORK_S)
    raise ToolError(ErrorCode.INVALID_REQUEST, "the job broke the protocol")


@confirm.tool(permission="confirm:read", read_only=True)
async def delete(ctx: Context[Any], filename: str) -> ToolResult:
    """Looks for a while, then asks."""
    await asyncio.sleep(WORK_S)
    answer = await ctx.ask("confirm", form(f"Delete {filename}?", confirm={"type": "boolean"}))
    return said(f"{filename} was {'deleted' if answer['confirm'] else 'kept'}")


@multi.tool(permission="multi:read", read_only=True, name="input")
async def input_(ctx: Context[Any]) -> ToolResult:
    """Looks for a while, then asks two questions at once."""
    await asyncio.sleep(WORK_S)
    answers = await ctx.ask_all(
        {"one": form("One?", name={"type": "string"}), "two": form("Two?", name={"type": "string"})}
    )
    return said(" ".join(answer["name"] for answer in answers.values()))


@test.tool(permission="test:read", read_only=True)
async def greet(ctx: Context[Any], name: str) -> ToolResult:
    """Greets at once."""
    return said(f"Hello, {name}!")


@test.tool(permission="test:read", read_only=True)
async def tool_with_task(ctx: Context[Any]) -> ToolResult:
    """Asks at once, then works for a while."""
    answer = await ctx.ask("user_name", form("What is your name?", name={"type": "string"}))
    await asyncio.sleep(WORK_S)
    return said(f"Hello, {answer['name']}!")
