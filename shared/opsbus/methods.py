"""The calls that are no tools: reading a resource, filling a prompt, completing an argument. Tools are execute.py's."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from opsbus.call import Call
from opsbus.results import completion_body, prompt_body, resource_body
from opsbus.steps import context_of, in_turn, permit, read_body, run
from opsbus.toolerror import ToolError, near
from opsbus_contracts import CompletionComplete, ErrorCode, PromptGet, ResourceRead

if TYPE_CHECKING:
    from opsbus.runtime import Runtime


async def _read_resource(runtime: "Runtime", call: Call) -> bytes:
    request = read_body(call, ResourceRead)
    found = runtime.worker.registry.find_resource(request.uri)
    if found is None:
        registry = runtime.worker.registry
        raise ToolError(
            ErrorCode.UNKNOWN_RESOURCE,
            f"there is no resource {request.uri[:200]!r}",
            did_you_mean=near(request.uri, (*registry.resources, *registry.templates)),
        )
    resource, variables = found
    call.label = resource.spec.name
    permit(call, resource.spec.permission, {})
    arguments = resource.arguments.parse(variables)
    context = context_of(runtime, call)
    value = await in_turn(runtime, call, lambda: run(call, resource.callee, context, arguments))
    return resource_body(resource, request.uri, value)


async def _get_prompt(runtime: "Runtime", call: Call) -> bytes:
    request = read_body(call, PromptGet)
    prompt = runtime.worker.registry.prompts.get(request.name)
    if prompt is None:
        raise ToolError(
            ErrorCode.UNKNOWN_PROMPT,
            f"there is no prompt {request.name!r}",
            did_you_mean=near(request.name, runtime.worker.registry.prompts),
        )
    call.label = prompt.spec.name
    permit(call, prompt.spec.permission, {})
    arguments = prompt.arguments.parse(dict(request.arguments))
    context = context_of(runtime, call)
    return prompt_body(prompt, await in_turn(runtime, call, lambda: run(call, prompt.callee, context, arguments)))


async def _complete(runtime: "Runtime", call: Call) -> bytes:
    request = read_body(call, CompletionComplete)
    registry = runtime.worker.registry
    argument, value = request.argument.get("name", ""), request.argument.get("value", "")
    if request.ref.get("type") == "ref/prompt":
        owner: Any = registry.prompts.get(request.ref.get("name", ""))
        reference = f"prompt:{request.ref.get('name')}:{argument}"
    elif request.ref.get("type") == "ref/resource":
        owner = registry.templates.get(request.ref.get("uri", ""))
        reference = f"resource:{request.ref.get('uri')}:{argument}"
    else:
        raise ToolError(ErrorCode.INVALID_REQUEST, "ref.type must be ref/prompt or ref/resource")
    if owner is None:
        code = ErrorCode.UNKNOWN_PROMPT if reference.startswith("prompt") else ErrorCode.UNKNOWN_RESOURCE
        raise ToolError(code, f"there is nothing to complete at {reference[:200]!r}")
    call.label = owner.spec.name
    permit(call, owner.spec.permission, {})
    completer = registry.completers.get(reference)
    if completer is None:
        return completion_body([])
    context = context_of(runtime, call)
    values = await in_turn(
        runtime, call, lambda: run(call, completer, context, {"value": value, "resolved": request.context})
    )
    return completion_body(values)


METHODS: dict[str, Callable[["Runtime", Call], Awaitable[bytes]]] = {
    "resources_read": _read_resource,
    "prompts_get": _get_prompt,
    "completion_complete": _complete,
}
