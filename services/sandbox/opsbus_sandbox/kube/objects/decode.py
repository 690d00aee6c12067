"""Decoding a body as the Go structs of the API would: wrong types are errors, unknown fields are dropped and told."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from opsbus_sandbox.clock import micro_timestamp, parse_timestamp, timestamp
from opsbus_sandbox.kube.errors import ApiError, bad_request
from opsbus_sandbox.kube.objects.schema import ListOf, Struct, schema_of
from opsbus_sandbox.kube.quantity import parse_quantity
from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]

_GO_KINDS: list[tuple[type, str]] = [(bool, "bool"), (int, "number"), (float, "number"), (str, "string")]
_LIMITS = {"int32": 2**31, "int64": 2**63}
# Maps of the user's own keys and values.
_PLAIN_TEXT = ("annotations", "binaryData", "data", "labels", "matchLabels", "stringData")
_QUANTITY_FORM = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


class _MismatchError(Exception):
    """A value has the wrong type."""


def decode(kind: ResourceType, body: Any) -> tuple[Obj, list[str]]:
    """(object without unknown fields, the paths of the fields that were dropped).

    Raises ApiError 400 when the body is no object, is of another kind, or has a field of the wrong type.
    """
    if not isinstance(body, dict):
        raise _undecodable(kind, f"json: cannot unmarshal {_go_kind(body)} into Go value of type v1.{kind.kind}")
    if body.get("kind") and body["kind"] != kind.kind:
        text = f"{body['kind']} in version {_quoted_version(kind)} cannot be handled as a {kind.kind}"
        raise bad_request(f"{text}: no kind match")
    if body.get("apiVersion") and body["apiVersion"] != kind.api_version:
        raise bad_request(
            f"the API version in the data ({body['apiVersion']}) does not match the expected API version "
            f"({kind.api_version})"
        )
    obj = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
    if not isinstance(obj.setdefault("metadata", {}), dict):
        raise _undecodable(kind, "json: cannot unmarshal the metadata into Go value of type v1.ObjectMeta")
    obj = _with_plain_times(obj)
    schema = schema_of(kind.plural, kind.kind)
    if schema is None:
        return obj, []
    unknown: list[str] = []
    try:
        decoded = _decode(obj, schema, "", kind.kind, unknown)
    except _MismatchError as error:
        raise _undecodable(kind, str(error)) from error
    return decoded, unknown


def _with_plain_times(value: Any, key: str = "") -> Any:
    """Times as the server writes them (`...Z`): clients send them back in whatever form their language prefers."""
    if isinstance(value, dict):
        return {k: v if k in _PLAIN_TEXT else _with_plain_times(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_plain_times(item) for item in value]
    if isinstance(value, str) and key.endswith(("Time", "Timestamp")):
        try:
            moment = parse_timestamp(value)
        except ValueError:
            return value
        return micro_timestamp(moment) if key == "eventTime" or moment.microsecond else timestamp(moment)
    return value


def strict_error(kind: ResourceType, unknown: list[str]) -> ApiError:
    """400 for unknown fields, when the client asked for strictness."""
    text = ", ".join(f'unknown field "{path}"' for path in unknown)
    return _undecodable(kind, f"strict decoding error: {text}")


def _undecodable(kind: ResourceType, why: str) -> ApiError:
    return bad_request(f"{kind.kind} in version {_quoted_version(kind)} cannot be handled as a {kind.kind}: {why}")


def _quoted_version(kind: ResourceType) -> str:
    return f'"{kind.version}"'


def _go_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return next((name for kind, name in _GO_KINDS if isinstance(value, kind)), "null")


def _decode(value: Any, schema: Any, path: str, owner: str, unknown: list[str]) -> Any:
    if value is None:
        return None
    if isinstance(schema, Struct):
        if not isinstance(value, dict):
            raise _mismatch(value, path, owner, f"v1.{schema.name}")
        decoded = {}
        for name, item in value.items():
            inner = f"{path}.{name}" if path else name
            if name not in schema.fields:
                unknown.append(inner)
            elif item is not None:
                decoded[name] = _decode(item, schema.fields[name], inner, schema.name, unknown)
        return decoded
    if isinstance(schema, ListOf):
        if not isinstance(value, list):
            raise _mismatch(value, path, owner, f"[]v1.{getattr(schema.of, 'name', schema.of)}")
        return [_decode(item, schema.of, f"{path}[{i}]", owner, unknown) for i, item in enumerate(value)]
    if schema != "any":
        _check_plain(value, schema, path, owner)
    return value


def _mismatch(value: Any, path: str, owner: str, go_type: str) -> _MismatchError:
    # Go names the path without list positions.
    plain = "".join(part.split("]", 1)[-1] for part in path.split("["))
    return _MismatchError(
        f"json: cannot unmarshal {_go_kind(value)} into Go struct field {owner}.{plain} of type {go_type}"
    )


def _check_plain(value: Any, schema: str, path: str, owner: str) -> None:
    if schema.startswith("map["):
        _check_map(value, schema, path, owner)
    elif schema in _LIMITS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _mismatch(value, path, owner, schema)
        if value != int(value) or not -_LIMITS[schema] <= value < _LIMITS[schema]:
            raise _MismatchError(
                f"json: cannot unmarshal number {value} into Go struct field {owner}.{path} of type {schema}"
            )
    elif schema == "string" and not isinstance(value, str):
        raise _mismatch(value, path, owner, "string")
    elif schema == "bool" and not isinstance(value, bool):
        raise _mismatch(value, path, owner, "bool")
    elif schema == "intstr" and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise _mismatch(value, path, owner, "intstr.IntOrString")


def _check_map(value: Any, schema: str, path: str, owner: str) -> None:
    if not isinstance(value, dict):
        raise _mismatch(value, path, owner, schema.replace("quantity", "resource.Quantity"))
    for item in value.values():
        if schema.endswith("quantity"):
            try:
                parse_quantity(item)
            except ValueError as error:
                raise _MismatchError(_QUANTITY_FORM) from error
        elif not isinstance(item, str) and item is not None:
            raise _mismatch(item, path, owner, "string" if schema.endswith("string") else "[]uint8")
        elif schema.endswith("byte") and item is not None:
            _check_base64(item)


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise _MismatchError("illegal base64 data at input byte 0") from error
