"""From a function's signature to JSON Schema and back: arguments in, results out. Raw schemas are in rawschema.py."""

import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from opsbus.content import ToolResult
from opsbus.toolerror import ToolError, near
from opsbus_contracts import ErrorCode

_PREFIX = "p_"  # keeps an argument named "schema" or "copy" from shadowing BaseModel's own
_CHECKED = {"minLength": int, "maxLength": int, "minItems": int, "maxItems": int, "pattern": str}
"""Bounds that are told when they are broken: a model that reads descriptions keeps to them."""
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")


@dataclass(frozen=True)
class Header:
    """Marks a parameter that clients also send as an HTTP header: ``Annotated[str, Header("Region")]``."""

    name: str

    def __post_init__(self) -> None:
        if not _HEADER_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no HTTP header name")


class Schema(GenerateJsonSchema):
    """pydantic's generator without the titles it makes up: they cost a model tokens and tell it nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def generate(self, schema: Any, mode: Any = "validation") -> JsonSchemaValue:
        result = super().generate(schema, mode)
        for part in (result, *result.get("$defs", {}).values()):
            part.pop("title", None)
        return result


class Arguments:
    """The arguments of a function: their schema, and the check of what a caller gave."""

    def __init__(self, function: Callable[..., Any], *, skip: int = 1) -> None:
        """``skip``: leading parameters that are not the caller's (the context)."""
        hints = hints_of(function)
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        described = described_arguments(inspect.getdoc(function) or "")
        fields: dict[str, Any] = {}
        headers: dict[str, str] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(
                    f"{function.__qualname__}: *args, **kwargs and positional-only parameters have no schema"
                )
            annotation = hints.get(parameter.name)
            if annotation is None:
                raise TypeError(f"{function.__qualname__}: parameter {parameter.name!r} needs a type")
            for mark in _marks(annotation):
                headers[parameter.name] = mark.name
            fields[_PREFIX + parameter.name] = _field(parameter, annotation, described.get(parameter.name))
        self.names = tuple(parameter.name for parameter in parameters)
        self.required = tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)
        self._model: type[BaseModel] = create_model(
            function.__name__, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields
        )
        self.schema = self._model.model_json_schema(by_alias=True, schema_generator=Schema)
        properties = self.schema.setdefault("properties", {})
        self.schema["properties"] = {name: _announced(schema) for name, schema in properties.items()}
        if "$defs" in self.schema:
            self.schema["$defs"] = {name: _announced(schema) for name, schema in self.schema["$defs"].items()}
        for name, header in headers.items():
            self.schema["properties"][name]["x-mcp-header"] = header

    def parse(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them.

        Raises:
            ToolError: ``invalid_arguments``, naming each wrong field and, for an unknown one, the valid ones.
        """
        try:
            model = self._model.model_validate(given)
        except ValidationError as error:
            raise invalid_arguments(error, self.names) from None
        return {name: getattr(model, _PREFIX + name) for name in self.names}


class Returns:
    """What a function returns: its output schema, and the check that it keeps to it.

    MCP's older protocols take an object alone as structured content, so anything else travels as ``{"result": ...}``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        annotation = hints_of(function).get("return", inspect.Parameter.empty)
        self.schema: dict[str, Any] | None = None
        self._adapter: TypeAdapter[Any] = TypeAdapter(Any)
        self.wrapped = False
        if annotation in (inspect.Parameter.empty, None, types.NoneType, Any) or _is_tool_result(annotation):
            return
        # A tool may return a ToolResult beside its type, when it wants full control of one case.
        annotation = _without_tool_result(annotation)
        self._adapter = TypeAdapter(annotation)
        schema = self._adapter.json_schema(mode="serialization", schema_generator=Schema)
        self.wrapped = not _is_object(schema)
        if self.wrapped:
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
            if definitions:
                schema["$defs"] = definitions
        # MCP wants it said at the root, also of a reference or a choice.
        self.schema = {"type": "object", **schema}

    def dump(self, value: Any) -> bytes:
        """The value's JSON, checked against the type.

        Raises:
            ValidationError: it is not of the declared type.
        """
        return self._adapter.dump_json(self._adapter.validate_python(value), by_alias=True)


def invalid_arguments(error: ValidationError, names: tuple[str, ...]) -> ToolError:
    """Every wrong field with what is wrong; the values given are not repeated, they may be secret."""
    problems: list[dict[str, str]] = []
    unknown: list[str] = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(part) for part in item["loc"]) or "arguments"
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            unknown.append(path)
            problems.append({"field": path, "problem": "unknown argument"})
        else:
            problems.append({"field": path, "problem": item["msg"]})
    said = "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems[:8])
    if len(problems) > 8:
        said += f"; and {len(problems) - 8} more"
    suggestions = [name for wrong in unknown for name in near(wrong, names)]
    return ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        said,
        hint=f"Valid arguments: {', '.join(names)}." if names else "The tool takes no arguments.",
        did_you_mean=list(dict.fromkeys(suggestions)),
        details={"errors": problems[:50], "valid_arguments": list(names)},
    )


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function.

    Raises:
        TypeError: an annotation names something that is not at module level.
    """
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{function.__qualname__}: {error}; types in a signature must be importable at module level"
        ) from error


def summary_of(function: Callable[..., Any]) -> str:
    """A function's docstring without its sections for programmers (Args, Returns, Raises): what a model reads."""
    text = inspect.getdoc(function) or ""
    return re.split(r"^(?:Args|Arguments|Returns|Raises|Yields):\s*$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def described_arguments(doc: str) -> dict[str, str]:
    """Descriptions from a docstring's ``Args:`` section, by name."""
    match = re.search(r"^(?:Args|Arguments):\s*\n((?:[ \t]+.*\n?|\s*\n)+)", doc, flags=re.MULTILINE)
    if not match:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in match.group(1).splitlines():
        start = re.match(r"^ {1,4}(\w+)(?: \([^)]*\))?:\s*(.*)$", line)
        if start:
            name = start.group(1)
            found[name] = start.group(2).strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _field(parameter: inspect.Parameter, annotation: Any, described: str | None) -> Any:
    info = _field_info(annotation)
    extra: dict[str, Any] = {"alias": parameter.name}
    if described and not (info and info.description):
        extra["description"] = described
    if parameter.default is not inspect.Parameter.empty:
        extra["default"] = parameter.default
    return Annotated[annotation, Field(**extra)]


def _announced(schema: Any) -> Any:
    """An argument as a model has to read it: what can be left out says so by its default, and bounds on lengths are
    told when they are broken. What is accepted is the model's matter: `null` for an argument left out is."""
    if isinstance(schema, list):
        return [_announced(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("default", ...) is None:
        schema = {key: value for key, value in schema.items() if key != "default"}
        kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
        schema = (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}) | schema
    # Anything but a bound under such a key is a property that happens to have the name.
    return {k: _announced(v) for k, v in schema.items() if not (k in _CHECKED and isinstance(v, _CHECKED[k]))}


def _field_info(annotation: Any) -> FieldInfo | None:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, FieldInfo)), None)


def _marks(annotation: Any) -> list[Header]:
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return [mark for mark in marks if isinstance(mark, Header)]


def _is_tool_result(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, ToolResult)


def _without_tool_result(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kept = tuple(part for part in get_args(annotation) if not _is_tool_result(part))
        if kept and len(kept) < len(get_args(annotation)):
            return Union[kept]  # noqa: UP007 - of a tuple made at run time
    return annotation


def _is_object(schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> bool:
    """Whether all that fits the schema is an object: one itself, a reference to one, or a choice between such."""
    known = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return _is_object(known.get(schema["$ref"].removeprefix("#/$defs/"), {}), known)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return all(_is_object(choice, known) for choice in choices)
    return schema.get("type") == "object"
