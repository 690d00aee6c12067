"""Tools that bring their own JSON Schema (2020-12) in place of a signature."""

from typing import Any

import orjson
from pydantic import TypeAdapter

from opsbus.toolerror import ToolError, near
from opsbus_contracts import ErrorCode

_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def _validator(schema: dict[str, Any]) -> Any:
    """A Draft202012Validator that fetches nothing.

    Raises:
        ValueError: no JSON Schema, or not of an object.
    """
    # Three megabytes, for those who bring a schema.
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"no valid JSON Schema: {error.message}") from error
    if schema.get("type") != "object":
        raise ValueError("a tool's schema has the type object at its root")
    return Draft202012Validator(schema, registry=Registry())


class RawArguments:
    """Arguments checked against a given schema; the function gets them as one dict."""

    required: tuple[str, ...] = ()

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _validator(schema)
        self.schema = schema
        self.names = tuple(schema.get("properties", {}))

    def parse(self, given: dict[str, Any]) -> dict[str, Any]:
        """``{"arguments": given}`` when they fit.

        Raises:
            ToolError: ``invalid_arguments``, naming each wrong field.
        """
        problems = [
            {
                "field": ".".join(str(part) for part in error.absolute_path) or "arguments",
                "problem": error.message[:300],
            }
            for error in self._validator.iter_errors(given)
        ]
        if problems:
            unknown = [name for name in given if name not in self.names]
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems[:8]),
                hint=f"Valid arguments: {', '.join(self.names)}." if self.names else "The tool takes no arguments.",
                did_you_mean=[match for name in unknown for match in near(name, self.names)],
                details={"errors": problems[:50], "valid_arguments": list(self.names)},
            )
        return {"arguments": given}


class RawReturns:
    """A result checked against a given schema."""

    wrapped = False

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _validator(schema)
        self.schema: dict[str, Any] | None = schema

    def dump(self, value: Any) -> bytes:
        """The value's JSON.

        Raises:
            ValueError: it does not fit the schema.
        """
        body = _ANY.dump_json(value, by_alias=True)
        problem = next(self._validator.iter_errors(orjson.loads(body)), None)
        if problem is not None:
            raise ValueError(f"{'.'.join(map(str, problem.absolute_path)) or 'result'}: {problem.message[:300]}")
        return body
