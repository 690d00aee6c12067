"""The three kinds of patch, by media type."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import jsonpointer

from opsbus_sandbox.kube.errors import ApiError, bad_request, unsupported_media_type
from opsbus_sandbox.kube.strategic import strategic_merge

Obj = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
MEDIA_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
_MAX_OPERATIONS = 10_000


def apply_patch(media_type: str, resource: str, original: Obj, patch: Any) -> Obj:
    """The patched object. Raises ApiError 415 for another media type, 400 or 422 for a patch that cannot be applied."""
    if media_type not in MEDIA_TYPES:
        raise unsupported_media_type(MEDIA_TYPES)
    if media_type == JSON_PATCH:
        return _json_patch(original, patch)
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal the patch into Go value of type map[string]any")
    if media_type == MERGE_PATCH:
        return _as_object(merge_patch(original, patch))
    return strategic_merge(resource, original, patch)


def merge_patch(original: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(original) if isinstance(original, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _json_patch(original: Obj, patch: Any) -> Obj:
    if not isinstance(patch, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(patch) > _MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(patch)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    try:
        return _as_object(jsonpatch.JsonPatch(patch).apply(copy.deepcopy(original)))
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        # The server hides which operation failed; the cause is here as well, since that is what one asks next.
        details = {"causes": [{"reason": "UnexpectedServerResponse", "message": str(error)}]}
        message = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", message, details) from error


def _as_object(value: Any) -> Obj:
    if not isinstance(value, dict):
        raise bad_request("the patch does not leave an object")
    return value
