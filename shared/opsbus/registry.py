"""What a worker offers: tools, resources, templates, prompts, completions, and their specs for the manifest."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_origin
from urllib.parse import unquote

import orjson

from opsbus.permission import DIMENSIONS
from opsbus.rawschema import RawArguments, RawReturns
from opsbus.schema import Arguments, Returns, hints_of, summary_of
from opsbus_contracts import PromptSpec, ResourceSpec, ResourceTemplateSpec, ToolSpec
from opsbus_contracts.catalog import PromptArgument, ToolAnnotations
from opsbus_contracts.names import mcp_name

Function = Callable[..., Any]
Completer = Callable[..., Awaitable[list[str]]]

_VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Callee:
    """A function of the worker's author, and how it is called."""

    function: Function
    takes_context: bool
    is_async: bool

    @classmethod
    def of(cls, function: Function) -> "Callee":
        """Looks at the signature: a first parameter ``ctx``, or one annotated Context, gets the context."""
        parameters = list(inspect.signature(function).parameters.values())
        hint = hints_of(function).get(parameters[0].name) if parameters else None
        named = bool(parameters) and parameters[0].name == "ctx"
        annotated = getattr(get_origin(hint) or hint, "__name__", "") == "Context"
        return cls(function, named or annotated, inspect.iscoroutinefunction(function))

    @property
    def skip(self) -> int:
        """Leading parameters that are not the caller's."""
        return 1 if self.takes_context else 0

    async def __call__(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; a plain one runs in a thread, so that it cannot hold up heartbeats."""
        given = (context, *args) if self.takes_context else args
        if self.is_async:
            return await self.function(*given, **kwargs)
        return await asyncio.to_thread(self.function, *given, **kwargs)


@dataclass(frozen=True)
class Tool:
    """A tool: what is announced, and what runs."""

    spec: ToolSpec
    callee: Callee
    arguments: Arguments | RawArguments
    returns: Returns | RawReturns
    budget_bytes: int
    plans: bool = False
    """It shows what it would do by ``Context.confirm``, before it does it."""

    @property
    def mutating(self) -> bool:
        """It may change something."""
        return not self.spec.annotations.read_only

    @property
    def repeatable(self) -> bool:
        """Running it twice does no harm."""
        return self.spec.annotations.idempotent


@dataclass(frozen=True)
class Resource:
    """A resource, or a family of them by a template's variables."""

    spec: ResourceSpec | ResourceTemplateSpec
    callee: Callee
    arguments: Arguments
    pattern: re.Pattern[str] | None = None

    def match(self, uri: str) -> dict[str, str] | None:
        """The template's variables in this URI, or None."""
        found = self.pattern.fullmatch(uri) if self.pattern else None
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


@dataclass(frozen=True)
class Prompt:
    """A prompt."""

    spec: PromptSpec
    callee: Callee
    arguments: Arguments


class Registry:
    """All a worker offers. Adding and removing is allowed at run time."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.tools: dict[str, Tool] = {}
        self.resources: dict[str, Resource] = {}
        self.templates: dict[str, Resource] = {}
        self.prompts: dict[str, Prompt] = {}
        self.completers: dict[str, Callee] = {}

    def add_tool(
        self,
        function: Function,
        *,
        permission: str,
        read_only: bool,
        name: str | None,
        title: str | None,
        destructive: bool,
        idempotent: bool,
        open_world: bool,
        timeout_s: float,
        budget_bytes: int,
        output_schema: dict[str, Any] | None,
        input_schema: dict[str, Any] | None,
        meta: dict[str, Any] | None,
        scope: dict[str, str] | None,
        plans: bool = False,
    ) -> Tool:
        """Adds a tool made of a function.

        Raises:
            ValueError: a name that is taken or not allowed, or hints that contradict each other.
            TypeError: a signature that has no schema.
        """
        name = name or function.__name__
        mcp_name(self.service, name)
        if name in self.tools:
            raise ValueError(f"the tool {name!r} is there already")
        if read_only and destructive:
            raise ValueError(f"{name}: a tool that only reads destroys nothing")
        callee = Callee.of(function)
        arguments = RawArguments(input_schema) if input_schema else Arguments(function, skip=callee.skip)
        returns = RawReturns(output_schema) if output_schema else Returns(function)
        tool = Tool(
            spec=ToolSpec(
                name=name,
                title=title,
                description=summary_of(function),
                input_schema=arguments.schema,
                output_schema=returns.schema,
                annotations=ToolAnnotations(
                    title=title,
                    read_only=read_only,
                    destructive=destructive,
                    idempotent=idempotent or read_only,
                    open_world=open_world,
                ),
                permission=permission,
                scope=checked_scope(name, scope or {}, arguments.schema),
                timeout_s=timeout_s,
                two_person=True,
                meta=meta,
            ),
            callee=callee,
            arguments=arguments,
            returns=returns,
            budget_bytes=budget_bytes,
            plans=plans,
        )
        self.tools[name] = tool
        return tool

    def add_resource(
        self,
        function: Function,
        uri: str,
        *,
        permission: str,
        name: str | None,
        title: str | None,
        mime_type: str | None,
        subscribable: bool,
        meta: dict[str, Any] | None,
    ) -> Resource:
        """Adds a resource, or a template when the URI has ``{variables}``; they are the function's parameters."""
        callee = Callee.of(function)
        arguments = Arguments(function, skip=callee.skip)
        variables = _VARIABLE.findall(uri)
        if set(variables) != set(arguments.names):
            raise TypeError(f"{function.__qualname__}: the parameters must be the URI's variables {variables}")
        if uri in self.resources or uri in self.templates:
            raise ValueError(f"the resource {uri!r} is there already")
        shared: dict[str, Any] = {
            "name": name or function.__name__,
            "title": title,
            "description": summary_of(function),
            "mime_type": mime_type,
            "permission": permission,
            "meta": meta,
        }
        if not variables:
            fixed = ResourceSpec(uri=uri, subscribable=subscribable, **shared)
            self.resources[uri] = Resource(fixed, callee, arguments)
            return self.resources[uri]
        family = ResourceTemplateSpec(uri_template=uri, **shared)
        self.templates[uri] = Resource(family, callee, arguments, template_pattern(uri))
        return self.templates[uri]

    def add_prompt(
        self,
        function: Function,
        *,
        permission: str,
        name: str | None,
        title: str | None,
        meta: dict[str, Any] | None,
    ) -> Prompt:
        """Adds a prompt; the function's parameters are its arguments."""
        name = name or function.__name__
        mcp_name(self.service, name)
        if name in self.prompts:
            raise ValueError(f"the prompt {name!r} is there already")
        callee = Callee.of(function)
        arguments = Arguments(function, skip=callee.skip)
        listed = [
            PromptArgument(
                name=argument,
                description=arguments.schema["properties"][argument].get("description", ""),
                required=argument in arguments.required,
            )
            for argument in arguments.names
        ]
        spec = PromptSpec(
            name=name,
            title=title,
            description=summary_of(function),
            arguments=listed,
            permission=permission,
            meta=meta,
        )
        self.prompts[name] = Prompt(spec, callee, arguments)
        return self.prompts[name]

    def add_completer(self, reference: str, function: Completer) -> None:
        """Adds a completer for ``prompt:<name>:<argument>`` or ``resource:<template>:<variable>``."""
        kind, _, rest = reference.partition(":")
        owner, _, argument = rest.rpartition(":")
        known = self.prompts.get(owner) if kind == "prompt" else self.templates.get(owner)
        if known is None or argument not in known.arguments.names:
            raise ValueError(f"there is no argument {argument!r} of the {kind} {owner!r} to complete")
        self.completers[reference] = Callee.of(function)

    def find_resource(self, uri: str) -> tuple[Resource, dict[str, str]] | None:
        """The resource behind a URI, with the template's variables."""
        if fixed := self.resources.get(uri):
            return fixed, {}
        for template in self.templates.values():
            variables = template.match(uri)
            if variables is not None:
                return template, variables
        return None

    def offer(self) -> dict[str, Any]:
        """The manifest's lists, with their hash."""
        lists: dict[str, Any] = {
            "tools": [tool.spec for tool in self.tools.values()],
            "resources": [resource.spec for resource in self.resources.values()],
            "resource_templates": [template.spec for template in self.templates.values()],
            "prompts": [prompt.spec for prompt in self.prompts.values()],
            "completions": sorted(self.completers),
        }
        plain = {
            key: [item if isinstance(item, str) else item.model_dump(mode="json") for item in items]
            for key, items in lists.items()
        }
        return lists | {"schema_hash": sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()}


def template_pattern(uri_template: str) -> re.Pattern[str]:
    """A pattern for RFC 6570 level 1: a variable is anything up to the next slash, percent-encoded."""
    parts = _VARIABLE.split(uri_template)
    texts, names = parts[::2], parts[1::2]
    pattern = re.escape(texts[0])
    for name, text in zip(names, texts[1:], strict=True):
        pattern += rf"(?P<{name}>[^/?#]+)" + re.escape(text)
    return re.compile(pattern)


def checked_scope(tool: str, scope: dict[str, str], schema: dict[str, Any]) -> dict[str, str]:
    """A tool's scope.

    Raises:
        ValueError: it names no dimension, or no argument of the tool.
    """
    properties = schema.get("properties", {})
    for dimension, argument in scope.items():
        if dimension not in DIMENSIONS:
            raise ValueError(f"{tool}: scope is about {', '.join(DIMENSIONS)}, not {dimension!r}")
        if argument not in properties:
            raise ValueError(f"{tool}: scope names the argument {argument!r}, which the tool does not have")
    return scope
