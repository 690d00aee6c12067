"""A tool's questions at the terminal: a form field by field, or every answer yes."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from mcp.client.session import ElicitationFnT
from mcp_types import ElicitRequestFormParams, ElicitResult


def answerer(*, yes: bool) -> ElicitationFnT:
    """Answers elicitations; ``yes``: without asking, as far as that is an answer."""

    async def answer(context: Any, params: Any) -> ElicitResult:
        if not isinstance(params, ElicitRequestFormParams):
            typer.echo(f"The tool wants you to visit a page, which this command cannot do: {params.url}", err=True)
            return ElicitResult(action="decline")
        # In the main thread and without the event loop: a thread that waits for input cannot be stopped by Ctrl-C.
        try:
            with _interruptible():
                return _agree(params) if yes else _ask(params)
        except KeyboardInterrupt:
            return ElicitResult(action="cancel")

    return answer


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the question; the event loop would keep the signal for itself until it runs again."""
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not the main thread: nobody sits here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _agree(params: ElicitRequestFormParams) -> ElicitResult:
    """Yes to what yes answers; declines a form that needs more."""
    content: dict[str, Any] = {}
    required = params.requested_schema.get("required", [])
    for name, field in _fields(params).items():
        if field.get("type") == "boolean":
            content[name] = True
        elif "default" in field:
            content[name] = field["default"]
        elif name in required:
            typer.echo(f"{params.message}\n--yes cannot answer {name!r}; run it without --yes", err=True)
            return ElicitResult(action="decline")
    typer.echo(f"{params.message}\n--yes", err=True)
    return ElicitResult(action="accept", content=content)


def _ask(params: ElicitRequestFormParams) -> ElicitResult:
    typer.echo(f"\n{params.message}", err=True)
    required = params.requested_schema.get("required", [])
    content: dict[str, Any] = {}
    try:
        for name, field in _fields(params).items():
            value = _field(name, field, needed=name in required)
            if value is not None:
                content[name] = value
    except (typer.Abort, EOFError):
        typer.echo("", err=True)
        return ElicitResult(action="cancel")
    fields = _fields(params)
    if len(fields) == 1 and next(iter(fields.values())).get("type") == "boolean" and not any(content.values()):
        return ElicitResult(action="decline")
    return ElicitResult(action="accept", content=content)


def _field(name: str, field: Mapping[str, Any], *, needed: bool) -> Any:
    """One field's value; None: left out."""
    label = str(field.get("title") or field.get("description") or name)
    if field.get("type") == "boolean":
        return typer.confirm(label, default=bool(field.get("default", False)), err=True)
    choices = _choices(field)
    if choices:
        typer.echo(f"{label}: {', '.join(choices)}", err=True)
    while True:
        given = typer.prompt(
            label if not choices else name, default=field.get("default", "" if not needed else None), err=True
        )
        if given == "" and not needed:
            return None
        value = _typed(str(given), field, choices)
        if value is not None:
            return value
        typer.echo(f"  a value of type {field.get('type', 'string')} is needed", err=True)


def _typed(text: str, field: Mapping[str, Any], choices: list[str]) -> Any:
    kind = field.get("type")
    if kind == "array":
        values = [part.strip() for part in text.split(",") if part.strip()]
        return values if not choices or set(values) <= set(choices) else None
    if choices:
        return text if text in choices else None
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            return None
    return text


def _choices(field: Mapping[str, Any]) -> list[str]:
    inner = field.get("items") if field.get("type") == "array" else field
    inner = inner if isinstance(inner, Mapping) else {}
    named = inner.get("oneOf") or inner.get("anyOf") or []
    return [str(value) for value in inner.get("enum", [])] or [str(part["const"]) for part in named if "const" in part]


def _fields(params: ElicitRequestFormParams) -> dict[str, Mapping[str, Any]]:
    return dict(params.requested_schema.get("properties", {}))
