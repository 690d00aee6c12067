"""A minimal OpenAPI v2 document: that writes take `dryRun`, `fieldManager` and `fieldValidation`.

kubectl looks here before it sends a server-side dry run, and asks for protobuf; older ones know nothing else. The
definitions of the objects are left out, so kubectl leaves validation to the server.
"""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.versions import Served

Obj = dict[str, Any]

_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")
# The form of the name that Go's own parser of media types accepts; the one clients ask for has an @ in it.
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def openapi_json(served: Served) -> Obj:
    """The document as JSON."""
    paths = {}
    for kind in served.kinds.values():
        operation = {
            "parameters": [
                {"name": name, "in": "query", "type": "string", "uniqueItems": True} for name in _PARAMETERS
            ],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        }
        paths[_path(kind)] = {"patch": operation}
    info = {"title": "Kubernetes", "version": served.git_version}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": {}}


def openapi_protobuf(served: Served) -> bytes:
    """The same document as the protobuf message gnostic's `openapi.v2.Document` (field numbers from its schema)."""
    info = _text(1, "Kubernetes") + _text(2, served.git_version)
    paths = b"".join(_bytes(2, _text(1, _path(kind)) + _bytes(2, _path_item(kind))) for kind in served.kinds.values())
    return _text(1, "2.0") + _bytes(2, info) + _bytes(8, paths)


def _path(kind: ResourceType) -> str:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return (
        f"{root}/namespaces/{{namespace}}/{kind.plural}/{{name}}"
        if kind.namespaced
        else f"{root}/{kind.plural}/{{name}}"
    )


def _path_item(kind: ResourceType) -> bytes:
    parameters = b"".join(_bytes(8, _query_parameter(name)) for name in _PARAMETERS)
    extension = f'group: "{kind.group}"\nversion: {kind.version}\nkind: {kind.kind}\n'
    named = _text(1, "x-kubernetes-group-version-kind") + _bytes(2, _text(2, extension))
    return _bytes(8, parameters + _bytes(13, named))


def _query_parameter(name: str) -> bytes:
    schema = _text(2, "query") + _text(4, name) + _text(6, "string")
    # ParametersItem.parameter > Parameter.non_body_parameter > NonBodyParameter.query_parameter_sub_schema
    return _bytes(1, _bytes(2, _bytes(3, schema)))


def _bytes(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
