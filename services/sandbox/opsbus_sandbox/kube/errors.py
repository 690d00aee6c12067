"""Errors as the API server words them: each is a `Status` object with a code, a reason, a message and details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]


class ApiError(Exception):
    """An answer that is not a success. `status` is the body, `code` the HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def status(self) -> Obj:
        """The `Status` object."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


@dataclass(frozen=True)
class Cause:
    """One thing wrong with a field. `reason` is the machine's word, `text` what follows the field's path."""

    field: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def show(value: object) -> str:
    """A value as Go prints it in a validation error."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    if value is None:
        return "null"
    return str(value)


def required(field: str, text: str = "") -> Cause:
    """The field is missing."""
    return Cause(field, "FieldValueRequired", f"Required value: {text}" if text else "Required value")


def invalid_value(field: str, value: object, text: str) -> Cause:
    """The field's value breaks a rule."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {show(value)}: {text}")


def unsupported(field: str, value: object, supported: Sequence[str]) -> Cause:
    """The field's value is not one of a set."""
    names = ", ".join(f'"{name}"' for name in sorted(supported))
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {names}")


def duplicate(field: str, value: object) -> Cause:
    """The value occurs twice where it must be unique."""
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {show(value)}")


def forbidden_field(field: str, text: str) -> Cause:
    """The field may not be set, or not changed."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {text}")


def _details(kind: str, name: str = "", group: str = "", **more: object) -> Obj:
    details: Obj = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    return {**details, **more}


def not_found(resource: ResourceType, name: str) -> ApiError:
    """404: no such object."""
    message = f'{resource.qualified} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(resource.plural, name, resource.group))


def unknown_resource() -> ApiError:
    """404: the path names nothing that is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: ResourceType, name: str) -> ApiError:
    """409: the name is taken."""
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource.plural, name, resource.group))


def conflict(resource: ResourceType, name: str, why: str = "") -> ApiError:
    """409: the object changed since it was read, or a precondition failed."""
    why = why or ("the object has been modified; please apply your changes to the latest version and try again")
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource.plural, name, resource.group))


def invalid(qualified_kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks the rules of its kind; every cause is named."""
    texts = [str(cause) for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind, _, group = qualified_kind.partition(".")
    listed = [{"reason": cause.reason, "message": cause.text, "field": cause.field} for cause in causes]
    message = f'{qualified_kind} "{name}" is invalid: {text}'
    return ApiError(422, "Invalid", message, _details(kind, name, group, causes=listed))


def invalid_options(kind: str, cause: Cause) -> ApiError:
    """422: a query parameter of a write is wrong."""
    return invalid(f"{kind}.meta.k8s.io", "", [cause])


def forbidden(resource: ResourceType, name: str, why: str) -> ApiError:
    """403 by admission: the object as such may not be."""
    message = f'{resource.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(resource.plural, name, resource.group))


def bad_request(message: str) -> ApiError:
    """400: the request makes no sense."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no credential, or one nobody knows."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    """405: the resource exists, the verb does not."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406: none of the media types the client accepts is produced here."""
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return ApiError(406, "NotAcceptable", message)


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: the body's media type is not understood here."""
    kinds = ", ".join(accepted)
    message = f"the body of the request was in an unknown format - accepted media types include: {kinds}"
    return ApiError(415, "UnsupportedMediaType", message)


def too_large(limit: int) -> ApiError:
    """413: the body is over the limit."""
    return ApiError(413, "RequestEntityTooLarge", f"limit is {limit}")


def expired(message: str) -> ApiError:
    """410: the resource version, or the continue token, is too old."""
    return ApiError(410, "Expired", message)


def eviction_refused(budget: str, text: str, *, still_processing: bool = False) -> ApiError:
    """429: the eviction would break a disruption budget, or nobody knows yet."""
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": f"The disruption budget {budget} {text}"}]}
    if still_processing:
        details["retryAfterSeconds"] = 10
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details)


def internal_error() -> ApiError:
    """500: a defect here; the traceback goes to the log, never to the client."""
    return ApiError(500, "InternalError", "Internal error occurred: see the log of the practice estate")
