"""What a tool returns, and what a client gets: checked, within the budget, never silently empty."""

import base64

import pytest
from pydantic import BaseModel

from opsbus import (
    Audio,
    Context,
    Embedded,
    ErrorCode,
    Image,
    Page,
    PromptMessage,
    ResourceContents,
    ResourceLink,
    Text,
    ToolResult,
    Worker,
)
from opsbus_contracts import Header

worker = Worker("test", version="1.0.0")


class Pod(BaseModel):
    name: str

    def to_text(self) -> str:
        return f"pod {self.name}"


def tool(**options):
    return worker.tool(permission="test:read", read_only=True, **options)


@tool()
async def model(ctx: Context[None]) -> Pod:
    """A model."""
    return Pod(name="a")


@tool()
async def text(ctx: Context[None]) -> str:
    """Text."""
    return "hello"


@tool()
async def nothing(ctx: Context[None]) -> None:
    """Nothing."""


@tool()
async def untyped(ctx: Context[None]):
    """No return type."""
    return {"a": [1, 2]}


@tool()
async def blocks(ctx: Context[None]) -> ToolResult:
    """Every block there is."""
    return ToolResult(
        content=[
            Text("words"),
            Image.of(b"\x89PNG", "image/png"),
            Audio.of(b"RIFF", "audio/wav"),
            ResourceLink(uri="test://a", name="a", mime_type="text/plain", size=3),
            Embedded.of("test://b", "text", "text/plain"),
            Embedded.of("test://c", b"\x00", "application/octet-stream"),
        ],
        structured=[1, 2],
        meta={"trace": "x"},
    )


@tool()
async def one_block(ctx: Context[None]):
    """A block by itself."""
    return Image.of(b"x", "image/png")


@tool()
async def says_no(ctx: Context[None]) -> Pod | ToolResult:
    """An error of the tool's own."""
    return ToolResult(content=[Text("no such pod")], is_error=True)


@tool()
async def wrong_type(ctx: Context[None]) -> Pod:
    """Breaks its promise."""
    return {"nam": "a"}  # type: ignore[return-value]


@tool()
async def wrong_block(ctx: Context[None]) -> ToolResult:
    """A malformed block, put in behind the model's back."""
    result = ToolResult(content=[Text("fine")])
    result.content.append({"type": "txt", "text": "lost"})  # type: ignore[arg-type]
    return result


@tool()
async def not_json(ctx: Context[None]):
    """What JSON cannot say."""
    return {"x": object()}


@tool()
async def no_structure(ctx: Context[None]) -> Pod | ToolResult:
    """An output schema and no structured content."""
    return ToolResult(content=[Text("forgot")])


@tool(budget_bytes=4_000)
async def page(ctx: Context[None], count: int, size: int = 20) -> Page[Pod]:
    """A list."""
    return Page[Pod].fit([Pod(name="x" * size) for _ in range(count)], budget_bytes=10**9, warnings=["early"])


@tool(budget_bytes=4_000)
async def page_with_picture(ctx: Context[None], count: int) -> Page[Pod] | ToolResult:
    """A list and a picture of it."""
    pods = Page[Pod].fit([Pod(name="x" * 20) for _ in range(count)], budget_bytes=10**9)
    return ToolResult(content=[Text("pods"), Image.of(b"\x89PNG" * 5_000, "image/png")], structured=pods)


@tool(budget_bytes=1_000)
async def long(ctx: Context[None]) -> dict[str, str]:
    """More than its budget."""
    return {"x": "y" * 2_000}


@tool(input_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False})
async def raw(ctx: Context[None], arguments: dict):
    """Its own schema."""
    return arguments


@tool(output_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
async def raw_out(ctx: Context[None], good: bool):
    """Its own output schema."""
    return {"n": 1} if good else {"n": "one"}


@worker.resource("test://text", permission="test:read", mime_type="text/markdown")
async def text_resource(ctx: Context[None]) -> str:
    """Text."""
    return "# hello"


@worker.resource("test://bytes", permission="test:read")
async def bytes_resource(ctx: Context[None]) -> bytes:
    """Bytes."""
    return b"\x00\x01"


@worker.resource("test://template/{id}/data", permission="test:secret")
async def templated(ctx: Context[None], id: int) -> dict:
    """A template."""
    return {"id": id}


@worker.resource("test://shaped", permission="test:read")
async def shaped() -> ResourceContents:
    """Shaped by itself, without a context."""
    return ResourceContents(uri="test://shaped/real", text="x", mime_type="text/plain")


@worker.resource("test://huge", permission="test:read")
async def huge(ctx: Context[None]) -> bytes:
    """Too large."""
    return b"x" * 1_000_000


@templated.completion("id")
async def complete_id(ctx: Context[None], value: str, resolved: dict[str, str]) -> list[str]:
    return [str(number) for number in range(150) if str(number).startswith(value)]


@worker.prompt(permission="test:read")
async def triage(ctx: Context[None], service: str, depth: int = 1) -> list[PromptMessage]:
    """Look into a service.

    Args:
        service: Which.
    """
    return [PromptMessage(f"{service} {depth}"), PromptMessage(Image.of(b"x", "image/png"), role="assistant")]


@worker.prompt(permission="test:read")
def plain_prompt() -> str:
    """Plain."""
    return "just text"


@triage.completion("service")
async def complete_service(ctx: Context[None], value: str, resolved: dict[str, str]) -> list[str]:
    return [name for name in ("checkout", "cart", resolved.get("depth", "none")) if name.startswith(value)]


async def test_results(run_worker, caller):
    async with run_worker(worker):
        result = (await caller.call("test", "model")).result
        assert result["structuredContent"] == {"name": "a"}
        assert result["content"] == [{"type": "text", "text": "pod a"}]
        assert (await caller.call("test", "text")).result == {
            "resultType": "complete",
            "content": [{"type": "text", "text": "hello"}],
            "structuredContent": {"result": "hello"},
            "isError": False,
        }
        assert (await caller.call("test", "nothing")).result["content"] == [{"type": "text", "text": "Done."}]
        assert (await caller.call("test", "untyped")).structured == {"a": [1, 2]}
        assert (await caller.call("test", "one_block")).result["content"][0]["mimeType"] == "image/png"


async def test_every_block(run_worker, caller):
    async with run_worker(worker):
        result = (await caller.call("test", "blocks")).result
    assert [block["type"] for block in result["content"]] == [
        "text",
        "image",
        "audio",
        "resource_link",
        "resource",
        "resource",
    ]
    assert result["content"][1] == {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}
    assert result["content"][3] == {
        "type": "resource_link",
        "uri": "test://a",
        "name": "a",
        "mimeType": "text/plain",
        "size": 3,
    }
    assert result["content"][4]["resource"] == {"uri": "test://b", "mimeType": "text/plain", "text": "text"}
    assert result["content"][5]["resource"]["blob"] == "AA=="
    assert result["structuredContent"] == {"result": [1, 2]}
    assert result["_meta"] == {"trace": "x"}


async def test_a_tools_own_error_is_an_ok_reply_marked_so(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "says_no")
    assert reply.result["isError"] is True
    assert reply.headers[Header.ERROR_CODE] == "tool_error"


@pytest.mark.parametrize("name", ["wrong_type", "wrong_block", "not_json", "no_structure"])
async def test_a_broken_promise_is_the_workers_error(run_worker, caller, name):
    async with run_worker(worker):
        reply = await caller.call("test", name)
    assert reply.error.code in (ErrorCode.BAD_REPLY, ErrorCode.INTERNAL)
    assert reply.error.code is ErrorCode.BAD_REPLY
    assert reply.executed == "yes"


async def test_a_page_is_cut_to_the_budget_and_says_so(run_worker, caller):
    async with run_worker(worker):
        small = (await caller.call("test", "page", {"count": 3})).structured
        assert (small["page"]["returned"], small["page"]["truncated"], small["warnings"]) == (3, False, ["early"])
        reply = await caller.call("test", "page", {"count": 1000})
        cut = reply.structured
        assert 0 < cut["page"]["returned"] == len(cut["items"]) < 1000
        assert (cut["page"]["total"], cut["page"]["truncated"]) == (1000, True)
        assert "left out" in cut["warnings"][1]
        assert len(reply.body) < 12_000
        one = (await caller.call("test", "page", {"count": 1, "size": 9000})).structured
        assert (one["items"], one["page"]["truncated"]) == ([], True)


async def test_a_page_beside_a_picture_is_cut_likewise(run_worker, caller):
    async with run_worker(worker):
        small = (await caller.call("test", "page_with_picture", {"count": 3})).result
        assert [block["type"] for block in small["content"]] == ["text", "image"]
        assert small["structuredContent"]["page"]["returned"] == 3
        cut = (await caller.call("test", "page_with_picture", {"count": 1000})).result
        assert (cut["structuredContent"]["page"]["total"], cut["structuredContent"]["page"]["truncated"]) == (
            1000,
            True,
        )
        assert base64.b64decode(cut["content"][1]["data"]) == b"\x89PNG" * 5_000


async def test_over_the_budget(run_worker, caller):
    async with run_worker(worker):
        error = (await caller.call("test", "long")).error
    assert error.code is ErrorCode.RESULT_TOO_LARGE
    assert error.details["bytes_max"] == 1_000


async def test_raw_schemas(run_worker, caller):
    async with run_worker(worker):
        assert (await caller.call("test", "raw", {"n": 3})).structured == {"n": 3}
        for wrong in ({"n": "three"}, {"m": 1}):
            error = (await caller.call("test", "raw", wrong)).error
            assert error.code is ErrorCode.INVALID_ARGUMENTS
            assert error.details["valid_arguments"] == ["n"]
        assert (await caller.call("test", "raw_out", {"good": True})).structured == {"n": 1}
        assert (await caller.call("test", "raw_out", {"good": False})).error.code is ErrorCode.BAD_REPLY


async def test_resources(run_worker, caller):
    async with run_worker(worker):
        assert (await caller.read("test", "test://text")).result == {
            "resultType": "complete",
            "contents": [{"uri": "test://text", "mimeType": "text/markdown", "text": "# hello"}],
            "ttlMs": 0,
            "cacheScope": "private",
        }
        assert (await caller.read("test", "test://bytes")).result["contents"][0]["blob"] == "AAE="
        assert (await caller.read("test", "test://template/7/data")).result["contents"] == [
            {"uri": "test://template/7/data", "mimeType": "application/json", "text": '{"id":7}'}
        ]
        assert (await caller.read("test", "test://shaped")).result["contents"][0]["uri"] == "test://shaped/real"
        assert (await caller.read("test", "test://huge")).error.code is ErrorCode.RESULT_TOO_LARGE


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("test://txt", ErrorCode.UNKNOWN_RESOURCE),
        ("test://template/a/b/data", ErrorCode.UNKNOWN_RESOURCE),
        ("test://template//data", ErrorCode.UNKNOWN_RESOURCE),
        ("test://template/seven/data", ErrorCode.INVALID_ARGUMENTS),
        ("", ErrorCode.INVALID_REQUEST),
        ("x" * 3000, ErrorCode.INVALID_REQUEST),
    ],
)
async def test_resources_that_are_not(run_worker, caller, uri, code):
    async with run_worker(worker):
        assert (await caller.read("test", uri)).error.code is code


async def test_prompts(run_worker, caller):
    async with run_worker(worker):
        result = (await caller.prompt("test", "triage", {"service": "shop", "depth": "2"})).result
        assert result["description"] == "Look into a service."
        assert result["messages"] == [
            {"role": "user", "content": {"type": "text", "text": "shop 2"}},
            {"role": "assistant", "content": {"type": "image", "data": "eA==", "mimeType": "image/png"}},
        ]
        plain = (await caller.prompt("test", "plain_prompt")).result["messages"]
        assert plain == [{"role": "user", "content": {"type": "text", "text": "just text"}}]
        assert (await caller.prompt("test", "triag")).error.did_you_mean == ["triage"]
        assert (await caller.prompt("test", "triage")).error.code is ErrorCode.INVALID_ARGUMENTS


async def test_completions(run_worker, caller):
    prompt = {"type": "ref/prompt", "name": "triage"}
    template = {"type": "ref/resource", "uri": "test://template/{id}/data"}
    async with run_worker(worker):
        reply = await caller.complete("test", prompt, "service", "c", {"depth": "core"})
        assert reply.result == {
            "resultType": "complete",
            "completion": {"values": ["checkout", "cart", "core"], "total": 3, "hasMore": False},
        }
        many = (await caller.complete("test", template, "id", "")).result["completion"]
        assert (len(many["values"]), many["total"], many["hasMore"]) == (100, 150, True)
        assert (await caller.complete("test", prompt, "depth", "")).result["completion"]["values"] == []
        unknown = await caller.complete("test", {"type": "ref/prompt", "name": "x"}, "a", "")
        assert unknown.error.code is ErrorCode.UNKNOWN_PROMPT
        assert (await caller.complete("test", {"type": "ref/x"}, "a", "")).error.code is ErrorCode.INVALID_REQUEST


async def test_permissions_hold_for_resources_prompts_and_completions(run_worker, caller):
    async with run_worker(worker):
        may = {"permissions": ["test:read"]}
        template = {"type": "ref/resource", "uri": "test://template/{id}/data"}
        assert (await caller.read("test", "test://text", **may)).result
        for reply in (
            await caller.read("test", "test://template/7/data", **may),
            await caller.complete("test", template, "id", "", **may),
            await caller.prompt("test", "triage", {"service": "x"}, permissions=[]),
        ):
            assert reply.error.code is ErrorCode.FORBIDDEN


def test_malformed_content_cannot_be_made():
    for make in (
        lambda: Image(data="not base64!", mime_type="image/png"),
        lambda: Image(data="eA==", mime_type="png"),
        lambda: ResourceContents(uri="a:b"),
        lambda: ResourceContents(uri="a:b", text="x", blob="eA=="),
        lambda: ToolResult(content=[{"type": "text", "txt": "x"}]),
        lambda: PromptMessage("x", role="system"),
        lambda: Text("x", colour="red"),
    ):
        with pytest.raises(ValueError):
            make()
