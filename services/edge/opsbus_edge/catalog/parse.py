"""A manifest's bytes become an Offer; what is wrong in it is refused item by item. Nothing is fetched here."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate
from pydantic import BaseModel, ValidationError

from opsbus_contracts.catalog import (
    MANIFEST_BYTES_MAX,
    Manifest,
    PromptSpec,
    ResourceSpec,
    ResourceTemplateSpec,
    ToolAnnotations,
    ToolSpec,
)
from opsbus_contracts.names import mcp_name
from opsbus_edge.catalog.entries import Item, Offer, Refusal, Spec, ToolFacts
from opsbus_edge.catalog.schemas import schema_problem

ITEMS_MAX = 2_000
"""Items of one kind in one manifest."""
REFUSALS_MAX = 200
"""Refusals told of one manifest; a worker that announces only garbage cannot flood the log."""

_NO_SCOPE: dict[str, str] = {}
_ANNOTATIONS: dict[tuple[bool, bool, bool, bool], ToolAnnotations] = {}

_Model = TypeVar("_Model", bound=BaseModel)
Describe = Callable[[str, _Model, dict[str, Any]], Item[Spec]]


class RefusedError(ValueError):
    """Why an item is refused."""


def parse_manifest(key: str, raw: bytes) -> tuple[Offer | None, list[Refusal]]:
    """What to take of the value of ``$KV.CATALOG.<key>``, and what not.

    Returns:
        The offer, None when the manifest as a whole is refused, and the refusals.
    """
    service, _, instance = key.partition(".")
    try:
        body = _load(raw)
        head = _check(Manifest, {name: value for name, value in body.items() if name not in _LISTS})
        if (head.service, head.instance) != (service, instance):
            raise RefusedError(f"announces itself as {head.service}.{head.instance} under the key {key}")
    except RefusedError as error:
        return None, [Refusal(service, instance, "", str(error))]
    refusals: list[Refusal] = []

    def take(name: str, model: type[_Model], describe: Describe[_Model, Spec]) -> dict[str, Item[Spec]]:
        found, refused = _take(service, body.get(name), model, describe)
        refusals.extend(Refusal(service, instance, item or name, reason) for item, reason in refused)
        return found

    offer = Offer(
        service=head.service,
        instance=head.instance,
        version=head.version,
        started_at=head.started_at,
        title=head.title,
        description=head.description,
        concurrency=head.concurrency,
        metrics_url=head.metrics_url,
        tools=take("tools", ToolSpec, _tool),
        resources=take("resources", ResourceSpec, _resource),
        templates=take("resource_templates", ResourceTemplateSpec, _template),
        prompts=take("prompts", PromptSpec, _prompt),
        completions=frozenset(head.completions),
    )
    return offer, refusals[:REFUSALS_MAX]


_LISTS = frozenset({"tools", "resources", "resource_templates", "prompts"})


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MANIFEST_BYTES_MAX:
        raise RefusedError(f"the manifest has {len(raw)} bytes, {MANIFEST_BYTES_MAX} are allowed")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"the manifest is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError("the manifest is not a JSON object")
    return body


def _check(model: type[_Model], value: Any) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise RefusedError(f"{where}: {first['msg']}"[:300]) from error


def _take(
    service: str, values: Any, model: type[_Model], describe: Describe[_Model, Spec]
) -> tuple[dict[str, Item[Spec]], list[tuple[str, str]]]:
    if values is None:
        return {}, []
    if not isinstance(values, list) or len(values) > ITEMS_MAX:
        return {}, [("", f"must be a list of at most {ITEMS_MAX}")]
    found: dict[str, Item[Spec]] = {}
    refused: list[tuple[str, str]] = []
    for number, value in enumerate(values):
        label = _label(value, number)
        try:
            item = describe(service, _check(model, value), value)
            if item.key in found:
                raise RefusedError("announced twice in one manifest")
            found[item.key] = item
        except RefusedError as error:
            refused.append((label, str(error)))
    return found, refused


def _label(value: Any, number: int) -> str:
    for name in ("uri", "uriTemplate", "name"):
        if isinstance(value, dict) and isinstance(text := value.get(name), str) and text:
            return text[:200]
    return f"item {number}"


def _name(service: str, name: str) -> str:
    try:
        return mcp_name(service, name)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _wire(**fields: Any) -> bytes:
    made = orjson.dumps({name: value for name, value in fields.items() if value not in (None, "")})
    return bytes(memoryview(made))  # a copy of its own size: orjson's has room for four times as much


def _tool(service: str, spec: ToolSpec, raw: dict[str, Any]) -> Item[ToolFacts]:
    name = _name(service, spec.name)
    if problem := schema_problem(spec.input_schema, root_object=True):
        raise RefusedError(f"inputSchema: {problem}")
    if problem := find_invalid_x_mcp_header(spec.input_schema):
        raise RefusedError(f"inputSchema: {problem}")
    if spec.output_schema is not None and (problem := schema_problem(spec.output_schema, root_object=False)):
        raise RefusedError(f"outputSchema: {problem}")
    wire = _wire(
        name=name,
        title=spec.title,
        description=spec.description,
        inputSchema=spec.input_schema,
        outputSchema=spec.output_schema,
        annotations=spec.annotations.model_dump(by_alias=True, exclude_none=True),
        _meta=spec.meta,
    )
    param_headers = bool(x_mcp_header_map(spec.input_schema))
    facts = ToolFacts(
        name=spec.name,
        permission=sys.intern(spec.permission),
        scope=spec.scope or _NO_SCOPE,
        timeout_s=spec.timeout_s,
        two_person=spec.two_person,
        annotations=_shared(spec.annotations),
        wire=wire,
        schema=spec.input_schema if param_headers else None,
    )
    return Item(name, facts, wire, param_headers=param_headers)


def _shared(annotations: ToolAnnotations) -> ToolAnnotations:
    """The same object for the same hints: there are few kinds of tools."""
    if annotations.title is not None:
        return annotations
    hints = (annotations.read_only, annotations.destructive, annotations.idempotent, annotations.open_world)
    return _ANNOTATIONS.setdefault(hints, annotations)


def _resource(_service: str, spec: ResourceSpec, raw: dict[str, Any]) -> Item[ResourceSpec]:
    if ":" not in spec.uri:
        raise RefusedError("a URI has a scheme: enterprise://k8s/clusters")
    wire = _wire(
        uri=spec.uri,
        name=spec.name,
        title=spec.title,
        description=spec.description,
        mimeType=spec.mime_type,
        _meta=spec.meta,
    )
    return Item(spec.uri, spec, wire)


def _template(_service: str, spec: ResourceTemplateSpec, raw: dict[str, Any]) -> Item[ResourceTemplateSpec]:
    try:
        UriTemplate.parse(spec.uri_template)
    except InvalidUriTemplate as error:
        raise RefusedError(f"uriTemplate: {error}"[:300]) from error
    wire = _wire(
        uriTemplate=spec.uri_template,
        name=spec.name,
        title=spec.title,
        description=spec.description,
        mimeType=spec.mime_type,
        _meta=spec.meta,
    )
    return Item(spec.uri_template, spec, wire)


def _prompt(service: str, spec: PromptSpec, raw: dict[str, Any]) -> Item[PromptSpec]:
    name = _name(service, spec.name)
    wire = _wire(
        name=name,
        title=spec.title,
        description=spec.description,
        arguments=[argument.model_dump(exclude_defaults=True) | {"name": argument.name} for argument in spec.arguments],
        _meta=spec.meta,
    )
    return Item(name, spec, wire)
