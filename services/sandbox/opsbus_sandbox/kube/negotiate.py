"""Media types: which form of answer a client accepts, and reading bodies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from aiohttp import web

from opsbus_sandbox.kube import protobuf
from opsbus_sandbox.kube.errors import bad_request, not_acceptable, too_large, unsupported_media_type

JSON = "application/json"
YAML = "application/yaml"
OBJECT_TYPES = (JSON, YAML, protobuf.MEDIA_TYPE)
MAX_BODY_BYTES = 3 * 1024 * 1024
MAX_DEPTH = 100
MAX_VALUES = 1_000_000  # on one level: aliases in YAML multiply
_PRODUCED = (JSON,)


@dataclass(frozen=True)
class Form:
    """The form of an answer: `shape` is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"."""

    shape: str = ""
    version: str = "v1"

    @property
    def content_type(self) -> str:
        """The media type to answer with."""
        if not self.shape:
            return JSON
        return f"{JSON};as={self.shape};g=meta.k8s.io;v={self.version}"


def accepted_form(header: str) -> Form:
    """The first form in an Accept header that is produced here. Raises ApiError 406 when none is."""
    if not header.strip():
        return Form()
    for part in header.split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        if media not in (JSON, "application/*", "*/*"):
            continue
        options = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        shape = options.get("as", "")
        if not shape:
            return Form()
        known = shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
        if known and options.get("g") == "meta.k8s.io" and options.get("v") in ("v1", "v1beta1"):
            return Form(shape, options["v"])
    raise not_acceptable(_PRODUCED)


async def read_body(request: web.Request, *, media_types: tuple[str, ...] = OBJECT_TYPES) -> Any:
    """The decoded body; None when there is none. Raises ApiError 400, 413 or 415."""
    raw = await _read(request)
    if not raw.strip():
        return None
    media = request.content_type if "Content-Type" in request.headers else JSON
    if media not in media_types:
        raise unsupported_media_type(media_types)
    if media == protobuf.MEDIA_TYPE:
        return protobuf.decode(raw)
    return parse(raw, is_yaml=media.endswith("yaml"))


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large(MAX_BODY_BYTES) from error


def parse(raw: bytes, *, is_yaml: bool = False) -> Any:
    """JSON or YAML text as plain values. Raises ApiError 400."""
    try:
        value = yaml.safe_load(raw) if is_yaml else json.loads(raw, parse_constant=_refuse_constant)
        _check_depth(value)
        return value
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def _check_depth(value: Any) -> None:
    """Refuse what is nested deeper than any object is, before something recursive meets it."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("exceeded max depth")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if len(inner) > MAX_VALUES:
            raise ValueError("too many values")
        level = inner


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character {name!r} looking for beginning of value")
