"""Worker ``test``: the tools, resources and prompts that the official conformance suite asks a server for.

They live on the bus like anyone's, so that the suite proves the whole path. Names, texts and keys are the suite's.
"""

import asyncio
import base64
import struct
import zlib
from typing import Annotated, Any

from opsbus import (
    Audio,
    Context,
    Elicit,
    Embedded,
    ErrorCode,
    Header,
    Image,
    PromptMessage,
    Roots,
    Sample,
    Text,
    ToolError,
    ToolResult,
    Worker,
)
from opsbus.ask import Question

READ = "test:read"

worker = Worker("test", version="1.0.0", title="Conformance fixtures")


def png(red: int = 255) -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes((0, red, 0, 0)))) + chunk(b"IEND", b"")


def wav() -> bytes:
    """A sound of one silent sample."""
    body = (
        b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 1) + b"\x80\x00"
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def said(text: str) -> ToolResult:
    """A result of plain text."""
    return ToolResult(content=[Text(text)])


def form(message: str, **properties: Any) -> Elicit[Any]:
    """A form of which every field is required."""
    return Elicit(message, schema={"type": "object", "properties": properties, "required": list(properties)})


async def ask_early(ctx: Context[Any], key: str, question: Question) -> Any:
    """Asks, and takes an answer that came before the question too.

    The suite sends ``inputResponses`` without the state of a round before. ``ctx.ask`` rightly drops such an answer:
    it would skip the question. Where nothing hangs on it, a worker may look at what it was sent.
    """
    responses = ctx._call.request.input_responses or {}
    if key in responses and key not in ctx.rounds.asked and isinstance(responses[key], dict):
        ctx.rounds.asked[key] = question.digest()
        ctx.rounds.answers[key] = responses[key]
    return await ctx.ask(key, question)  # type: ignore[call-overload]


# content


@worker.tool(permission=READ, read_only=True)
async def simple_text(ctx: Context[Any]) -> ToolResult:
    """Plain text."""
    return said("This is a simple text response for testing.")


@worker.tool(permission=READ, read_only=True)
async def image_content(ctx: Context[Any]) -> ToolResult:
    """A picture."""
    return ToolResult(content=[Image.of(png(), "image/png")])


@worker.tool(permission=READ, read_only=True)
async def audio_content(ctx: Context[Any]) -> ToolResult:
    """A sound."""
    return ToolResult(content=[Audio.of(wav(), "audio/wav")])


@worker.tool(permission=READ, read_only=True)
async def embedded_resource(ctx: Context[Any]) -> ToolResult:
    """A resource inside the result."""
    return ToolResult(
        content=[Embedded.of("test://embedded-resource", "This is an embedded resource content.", "text/plain")]
    )


@worker.tool(permission=READ, read_only=True)
async def multiple_content_types(ctx: Context[Any]) -> ToolResult:
    """Text, a picture and a resource."""
    return ToolResult(
        content=[
            Text("Multiple content types test:"),
            Image.of(png(), "image/png"),
            Embedded.of("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
        ]
    )


@worker.tool(permission=READ, read_only=True)
async def error_handling(ctx: Context[Any]) -> ToolResult:
    """Always an error."""
    raise ToolError(ErrorCode.BACKEND_ERROR, "This tool intentionally returns an error for testing")


# messages before the result


@worker.tool(permission=READ, read_only=True)
async def tool_with_logging(ctx: Context[Any]) -> ToolResult:
    """Three log messages at level info."""
    await ctx.notify("info", "Tool execution started")
    await asyncio.sleep(0.05)
    await ctx.notify("info", "Tool processing data")
    await asyncio.sleep(0.05)
    await ctx.notify("info", "Tool execution completed")
    return said("Tool with logging executed successfully")


@worker.tool(permission=READ, read_only=True)
async def logging_tool(ctx: Context[Any]) -> ToolResult:
    """A log message that only a client that asked for it may get."""
    await ctx.notify("info", "A log message")
    return said("logged")


@worker.tool(permission=READ, read_only=True)
async def tool_with_progress(ctx: Context[Any]) -> ToolResult:
    """Progress 0, 50, 100 of 100."""
    for done in (0, 50, 100):
        await ctx.progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return said("Tool with progress executed successfully")


@worker.tool(permission=READ, read_only=True)
async def reconnection(ctx: Context[Any]) -> ToolResult:
    """Takes longer than the edge holds a stream open when it is set to let clients poll."""
    await asyncio.sleep(1.5)
    return said("Reconnection test completed")


@worker.tool(permission=READ, read_only=True)
async def x_mcp_header(
    ctx: Context[Any],
    region: Annotated[str, Header("Region")],
    priority: Annotated[int, Header("Priority")] = 0,
) -> ToolResult:
    """Arguments that clients also send as HTTP headers."""
    return said(f"region={region} priority={priority}")


# questions


@worker.tool(permission=READ, read_only=True)
async def sampling(ctx: Context[Any], prompt: str) -> ToolResult:
    """Asks the client's model."""
    answer = await ctx.ask("sampling", Sample(prompt, max_tokens=100))
    return said(f"LLM response: {answer.text}")


@worker.tool(permission=READ, read_only=True)
async def missing_capability(ctx: Context[Any]) -> ToolResult:
    """Needs a client that can sample."""
    answer = await ctx.ask("sampling", Sample("Say something", max_tokens=10))
    return said(answer.text)


@worker.tool(permission=READ, read_only=True)
async def elicitation(ctx: Context[Any], message: str) -> ToolResult:
    """Asks the user for name and address."""
    answer = await ctx.ask(
        "elicitation",
        form(
            message,
            username={"type": "string", "description": "User's response"},
            email={"type": "string", "description": "User's email address"},
        ),
    )
    return said(f"User response: action=accept, content={answer}")


@worker.tool(permission=READ, read_only=True)
async def streaming_elicitation(ctx: Context[Any]) -> ToolResult:
    """Progress, then a question."""
    await ctx.progress(1, 2)
    answer = await ctx.ask("name", form("What is your name?", name={"type": "string"}))
    return said(f"Hello, {answer['name']}!")


@worker.tool(permission=READ, read_only=True)
async def elicitation_sep1034_defaults(ctx: Context[Any]) -> ToolResult:
    """A form with default values of every primitive type."""
    answer = await ctx.ask(
        "defaults",
        form(
            "Please review and update the form fields with defaults",
            name={"type": "string", "description": "User name", "default": "John Doe"},
            age={"type": "integer", "description": "User age", "default": 30},
            score={"type": "number", "description": "User score", "default": 95.5},
            status={
                "type": "string",
                "description": "User status",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            verified={"type": "boolean", "description": "Verification status", "default": True},
        ),
    )
    return said(f"Elicitation completed: action=accept, content={answer}")


def titled(first: str, *names: str) -> list[dict[str, str]]:
    """Choices with titles."""
    return [{"const": f"value{n}", "title": f"{name} {first}"} for n, name in enumerate(names, 1)]


@worker.tool(permission=READ, read_only=True)
async def elicitation_sep1330_enums(ctx: Context[Any]) -> ToolResult:
    """A form with all five kinds of enumeration."""
    options = ["option1", "option2", "option3"]
    answer = await ctx.ask(
        "enums",
        form(
            "Please select options from the enum fields",
            untitledSingle={"type": "string", "enum": options},
            titledSingle={"type": "string", "oneOf": titled("Option", "First", "Second", "Third")},
            legacyEnum={
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
            titledMulti={"type": "array", "items": {"anyOf": titled("Choice", "First", "Second", "Third")}},
        ),
    )
    return said(f"Elicitation completed: action=accept, content={answer}")


NAME = form("What is your name?", name={"type": "string"})
CONFIRM = form("Please confirm", ok={"type": "boolean"})


@worker.tool(permission=READ, read_only=True)
async def input_required_result_elicitation(ctx: Context[Any]) -> ToolResult:
    """One question to the user."""
    answer = await ask_early(ctx, "user_name", NAME)
    return said(f"Hello, {answer.get('name')}!")


@worker.tool(permission=READ, read_only=True)
async def input_required_result_sampling(ctx: Context[Any]) -> ToolResult:
    """One question to the model."""
    answer = await ask_early(ctx, "capital_question", Sample("What is the capital of France?", max_tokens=100))
    return said(answer.text)


@worker.tool(permission=READ, read_only=True)
async def input_required_result_list_roots(ctx: Context[Any]) -> ToolResult:
    """The client's roots."""
    roots = await ask_early(ctx, "client_roots", Roots())
    return said("Roots: " + ", ".join(f"{root.name or ''} {root.uri}" for root in roots))


@worker.tool(permission=READ, read_only=True)
async def input_required_result_request_state(ctx: Context[Any]) -> ToolResult:
    """A question whose answer counts only with the state it was asked with."""
    await ctx.ask("confirm", CONFIRM)
    return said("state-ok")


@worker.tool(permission=READ, read_only=True)
async def input_required_result_tampered_state(ctx: Context[Any]) -> ToolResult:
    """The same, for the suite to damage the state."""
    await ctx.ask("confirm", CONFIRM)
    return said("state-ok")


@worker.tool(permission=READ, read_only=True)
async def input_required_result_multiple_inputs(ctx: Context[Any]) -> ToolResult:
    """Three questions at once."""
    answers = await ctx.ask_all(
        {"user_name": NAME, "greeting": Sample("Generate a greeting", max_tokens=50), "client_roots": Roots()}
    )
    return said(f"{answers['greeting'].text} {answers['user_name']['name']}, roots: {len(answers['client_roots'])}")


@worker.tool(permission=READ, read_only=True)
async def input_required_result_multi_round(ctx: Context[Any]) -> ToolResult:
    """Two questions, one after the other."""
    name = await ctx.ask("step1", form("Step 1: What is your name?", name={"type": "string"}))
    color = await ctx.ask("step2", form("Step 2: What is your favorite color?", color={"type": "string"}))
    return said(f"{name['name']} likes {color['color']}")


@worker.tool(permission=READ, read_only=True)
async def input_required_result_capabilities(ctx: Context[Any]) -> ToolResult:
    """Asks only what the client can answer."""
    questions: dict[str, Question] = {"user_name": NAME, "greeting": Sample("Generate a greeting", max_tokens=50)}
    answers = await ctx.ask_all({key: q for key, q in questions.items() if ctx.client_can(q.capability)})
    return said(f"answered: {', '.join(answers) or 'nothing was asked'}")


# lists that change


async def appears(ctx: Context[Any]) -> ToolResult:
    """Comes and goes."""
    return said("here")


async def appearing(ctx: Context[Any]) -> str:
    """Comes and goes."""
    return "here"


@worker.tool(permission=READ)
async def trigger_tool_change(ctx: Context[Any]) -> ToolResult:
    """Adds a tool, or takes it away."""
    if "appears" in worker.registry.tools:
        worker.remove_tool("appears")
    else:
        worker.add_tool(appears, permission=READ, read_only=True)
    worker.announce_changed()
    return said("tools changed")


@worker.tool(permission=READ)
async def trigger_prompt_change(ctx: Context[Any]) -> ToolResult:
    """Adds a prompt, or takes it away."""
    if "appearing" in worker.registry.prompts:
        del worker.registry.prompts["appearing"]
    else:
        worker.prompt(permission=READ)(appearing)
    worker.announce_changed()
    return said("prompts changed")


@worker.tool(permission=READ)
async def touch_watched(ctx: Context[Any]) -> ToolResult:
    """Tells the subscribers of test://watched-resource."""
    await ctx.resource_updated("test://watched-resource")
    return said("touched")


# resources


@worker.resource("test://static-text", permission=READ, name="static-text", mime_type="text/plain")
async def static_text(ctx: Context[Any]) -> str:
    """Text that stays."""
    return "This is the content of the static text resource."


@worker.resource("test://static-binary", permission=READ, name="static-binary", mime_type="image/png")
async def static_binary(ctx: Context[Any]) -> bytes:
    """A picture that stays."""
    return png()


@worker.resource("test://template/{id}/data", permission=READ, name="template", mime_type="application/json")
async def template(ctx: Context[Any], id: str) -> dict[str, Any]:
    """Data by id."""
    return {"id": id, "templateTest": True, "data": f"Data for ID: {id}"}


@worker.resource(
    "test://watched-resource", permission=READ, name="watched-resource", mime_type="text/plain", subscribable=True
)
async def watched(ctx: Context[Any]) -> str:
    """Text that changes."""
    return "Watched resource content"


# prompts


@worker.prompt(permission=READ)
async def simple_prompt(ctx: Context[Any]) -> str:
    """Without arguments."""
    return "This is a simple prompt for testing."


@worker.prompt(permission=READ)
async def prompt_with_arguments(ctx: Context[Any], arg1: str, arg2: str) -> str:
    """With two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@prompt_with_arguments.completion("arg1")
async def complete_arg1(ctx: Context[Any], value: str, resolved: dict[str, str]) -> list[str]:
    return [city for city in ("paris", "park", "party") if city.startswith(value)]


@worker.prompt(permission=READ)
async def prompt_with_embedded_resource(ctx: Context[Any], resourceUri: str) -> list[PromptMessage]:  # noqa: N803
    """With a resource inside."""
    return [
        PromptMessage(Embedded.of(resourceUri, "Embedded resource content for testing.", "text/plain")),
        PromptMessage("Please process the embedded resource above."),
    ]


@worker.prompt(permission=READ)
async def prompt_with_image(ctx: Context[Any]) -> list[PromptMessage]:
    """With a picture."""
    return [PromptMessage(Image.of(png(), "image/png")), PromptMessage("Please analyze the image above.")]


@worker.prompt(permission=READ)
async def input_required_result_prompt(ctx: Context[Any]) -> str:
    """Asks before it answers."""
    question = form("What context should the prompt use?", context={"type": "string"})
    answer = await ask_early(ctx, "user_context", question)
    return f"Prompt with context: {answer.get('context')}"


PNG_BASE64 = base64.b64encode(png()).decode()
"""What readers of ``test://static-binary`` get."""
