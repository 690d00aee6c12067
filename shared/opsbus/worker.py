"""Worker: what a team writes its tools on. Carrying a call out lives in execute.py, the process in process.py."""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakSet

from opsbus.page import BUDGET_BYTES
from opsbus.registry import Completer, Registry
from opsbus.service import Service
from opsbus.settings import Settings
from opsbus_contracts.names import SERVICE_PATTERN
from opsbus_contracts.permissions import PLATFORM_IDENTITIES

if TYPE_CHECKING:
    from opsbus.runtime import Runtime

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Completer)
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Completable:
    """A prompt or resource of a worker: still the function it was, and the place to hang completions on."""

    def __init__(self, worker: "Worker", function: Callable[..., Any], reference: str) -> None:
        self._worker = worker
        self._function = function
        self._reference = reference
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def completion(self, argument: str) -> Callable[[C], C]:
        """Decorates ``async (ctx, value: str, resolved: dict[str, str]) -> list[str]``: completions of ``value``."""

        def add(function: C) -> C:
            self._worker.registry.add_completer(f"{self._reference}:{argument}", function)
            return function

        return add


class Worker:
    """A service on the bus: tools, resources and prompts of one team.

    Args:
        service: Its token: subject ``tool.<service>.<tool>``, MCP names ``<service>_<tool>``.
        version: Of the worker, as it is announced. Semantic.
        settings: Its settings class; instances are made from environment and file when it runs.
        blobs: Serve ``opsbus://<service>/blobs/{id}`` for what ``ctx.blob`` stored, to callers with this permission;
            True: ``<service>:read``.
    """

    def __init__(
        self,
        service: str,
        *,
        version: str,
        title: str | None = None,
        description: str = "",
        settings: type[Settings] = Settings,
        blobs: str | bool = False,
    ) -> None:
        if not re.fullmatch(SERVICE_PATTERN, service) or service in PLATFORM_IDENTITIES:
            raise ValueError(f"{service!r} is no service token: {SERVICE_PATTERN}, and none of {PLATFORM_IDENTITIES}")
        self.name = service
        self.version = version
        self.title = title
        self.description = description
        self.settings_class = settings
        self.registry = Registry(service)
        self.lifespan_function: Lifespan | None = None
        self.runtimes: WeakSet[Runtime] = WeakSet()
        if blobs:
            from opsbus.blobs import serve_blobs

            serve_blobs(self, blobs if isinstance(blobs, str) else f"{service}:read")

    def lifespan(self, function: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any], AsyncIterator[Any]]:
        """Decorates ``async def (settings): ...; yield state``: runs around serving; the yielded is ``ctx.state``."""
        self.lifespan_function = asynccontextmanager(function)
        return function

    def tool(
        self,
        *,
        permission: str,
        read_only: bool = False,
        name: str | None = None,
        title: str | None = None,
        destructive: bool = False,
        idempotent: bool = False,
        open_world: bool = False,
        timeout_s: float = 30.0,
        budget_bytes: int = BUDGET_BYTES,
        output_schema: dict[str, Any] | None = None,
        input_schema: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        scope: dict[str, str] | None = None,
        plans: bool = False,
    ) -> Callable[[F], F]:
        """Decorates a function as a tool; the signature gives the schemas, the docstring the description.

        Args:
            permission: What a caller needs, ``k8s:get``.
            read_only: It changes nothing; implies ``idempotent``.
            timeout_s: A call ends after this long. Seconds.
            budget_bytes: A larger result is an error ``result_too_large``; a Page is cut to it.
            input_schema: JSON Schema in place of the signature; the function is called with ``arguments: dict``.
            output_schema: JSON Schema in place of the return type.
            meta: ``_meta`` of the tool as listed.
            scope: Which argument says what a call touches, by dimension (cluster, namespace, environment, service), so
                that a policy can be about it: ``{"namespace": "target"}``. Arguments named like a dimension, or its
                plural, need no word.
            plans: It calls ``ctx.confirm`` with its plan before it acts. Where the policy wants a second person, that
                plan is what they see; of any other tool they see the arguments, before its function is called.
        """

        def add(function: F) -> F:
            self.registry.add_tool(
                function,
                permission=permission,
                read_only=read_only,
                name=name,
                title=title,
                destructive=destructive,
                idempotent=idempotent,
                open_world=open_world,
                timeout_s=timeout_s,
                budget_bytes=budget_bytes,
                output_schema=output_schema,
                input_schema=input_schema,
                meta=meta,
                scope=scope,
                plans=plans,
            )
            return function

        return add

    def add_tool(self, function: Callable[..., Any], **options: Any) -> None:
        """Like ``tool``, at run time; call ``announce_changed`` after it."""
        self.tool(**options)(function)

    def remove_tool(self, name: str) -> None:
        """Takes a tool away; call ``announce_changed`` after it.

        Raises:
            KeyError: there is none of that name.
        """
        del self.registry.tools[name]

    def resource(
        self,
        uri: str,
        *,
        permission: str,
        name: str | None = None,
        title: str | None = None,
        mime_type: str | None = None,
        subscribable: bool = False,
        meta: dict[str, Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Completable]:
        """Decorates ``async (ctx, **variables) -> str | bytes | BaseModel | dict | list``: what is at the URI.

        ``{variables}`` in the URI make it a template (RFC 6570 level 1); they are the function's parameters.
        """

        def add(function: Callable[..., Any]) -> Completable:
            self.registry.add_resource(
                function,
                uri,
                permission=permission,
                name=name,
                title=title,
                mime_type=mime_type,
                subscribable=subscribable,
                meta=meta,
            )
            return Completable(self, function, f"resource:{uri}")

        return add

    def prompt(
        self,
        *,
        permission: str,
        name: str | None = None,
        title: str | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Completable]:
        """Decorates ``async (ctx, **arguments) -> str | list[PromptMessage]``."""

        def add(function: Callable[..., Any]) -> Completable:
            self.registry.add_prompt(function, permission=permission, name=name, title=title, meta=meta)
            return Completable(self, function, f"prompt:{name or function.__name__}")

        return add

    def completion(self, *, argument: str, prompt: str | None = None, resource: str | None = None) -> Callable[[C], C]:
        """Decorates a completer of a prompt's argument or a template's variable. See ``Completable.completion``."""
        if (prompt is None) == (resource is None):
            raise TypeError("completion takes a prompt or a resource")
        reference = f"prompt:{prompt}" if prompt is not None else f"resource:{resource}"

        def add(function: C) -> C:
            self.registry.add_completer(f"{reference}:{argument}", function)
            return function

        return add

    def announce_changed(self) -> None:
        """The catalogue is put again at once, in every running instance of this process."""
        for runtime in self.runtimes:
            runtime.announce_changed()

    def run(self) -> None:
        """Runs the worker until SIGTERM or SIGINT, then drains. A wrong setting ends the process with code 2."""
        from opsbus.process import run_worker

        run_worker(self)

    def service(
        self,
        *,
        order: int = 50,
        needs: Iterable[str] = ("nats",),
        name: str | None = None,
        kind: Literal["worker", "edge", "backend"] = "worker",
    ) -> Service:
        """The object for the entry point group ``opsbus.services``."""
        return Service(
            name=name or self.name,
            token=self.name,
            main=self.run,
            order=order,
            needs=tuple(needs),
            kind=kind,
            description=self.description,
        )
