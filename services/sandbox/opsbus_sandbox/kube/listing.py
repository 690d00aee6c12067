"""Lists: selectors, pages that belong to one moment, and the continue token that leads from page to page."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from opsbus_sandbox.kube.errors import ApiError, bad_request, expired, invalid_options, invalid_value
from opsbus_sandbox.kube.request import number
from opsbus_sandbox.kube.resources import ResourceType
from opsbus_sandbox.kube.selectors import Matcher, field_matcher, label_matcher
from opsbus_sandbox.kube.store import HistoryGoneError, ObjectStore, key_of
from opsbus_sandbox.kube.views import present

Obj = dict[str, Any]

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_LATEST = -1  # as a token's version: continue with whatever is there now


def matcher_of(kind: ResourceType, query: Mapping[str, str]) -> Matcher:
    """A predicate for the label and field selectors of a request. Raises ApiError 400."""
    by_label = label_matcher(query.get("labelSelector", ""))
    by_field = field_matcher(kind, query.get("fieldSelector", ""))
    return lambda obj: by_label(obj) and by_field(obj)


def list_page(store: ObjectStore, kind: ResourceType, namespace: str, query: Mapping[str, str]) -> Obj:
    """One page as a list object. Raises ApiError 400, 410 or 422."""
    matches = matcher_of(kind, query)
    limit = number(query, "limit") or 0
    if limit < 0:
        raise invalid_options("ListOptions", invalid_value("limit", limit, "must be greater than or equal to 0"))
    token = query.get("continue", "")
    version, start = _starting_point(store, query, token)
    try:
        everything = store.list_at(kind.plural, namespace or None, store.version if version == _LATEST else version)
    except HistoryGoneError as error:
        if not token:
            raise expired(str(error)) from error
        raise _expired_token(start) from error
    shown = store.version if version == _LATEST else version
    found = [obj for obj in everything if matches(obj) and (start is None or list(key_of(obj)) > start)]
    page = found[:limit] if limit else found
    meta: Obj = {"resourceVersion": str(shown)}
    if len(page) < len(found):
        meta["continue"] = _token(shown, list(key_of(page[-1])))
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            meta["remainingItemCount"] = len(found) - len(page)
    items = [_item(present(kind, obj)) for obj in page]
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": items}


def _starting_point(store: ObjectStore, query: Mapping[str, str], token: str) -> tuple[int, list[str] | None]:
    text, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    if match and match not in ("Exact", "NotOlderThan"):
        cause = invalid_value("resourceVersionMatch", match, 'supported values: "Exact", "NotOlderThan"')
        raise invalid_options("ListOptions", cause)
    if match and not text:
        text_ = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid_options("ListOptions", invalid_value("resourceVersionMatch", match, text_))
    if token:
        if text not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        return _read_token(token)
    version = resource_version(text)
    if version > store.version:
        raise ApiError(504, "Timeout", f"Too large resource version: {version}, current: {store.version}")
    if match == "Exact" and version > 0:
        return version, None
    return store.version, None


def resource_version(text: str) -> int:
    """A resource version as a number; "" is 0. Raises ApiError 400."""
    if text in ("", "0"):
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def _token(version: int, start: list[str]) -> str:
    raw = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}, separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, list[str]]:
    try:
        raw = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = raw["rv"], raw["start"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
    well_formed = isinstance(start, list) and len(start) == 2 and all(isinstance(part, str) for part in start)
    if not isinstance(version, int) or isinstance(version, bool) or not well_formed:
        raise bad_request("continue key is not valid: incorrect encoding")
    return version, start


def _expired_token(start: list[str] | None) -> ApiError:
    error = _ExpiredPageError(410, "Expired", _TOO_OLD)
    error.token = _token(_LATEST, start or ["", ""])
    return error


class _ExpiredPageError(ApiError):
    """410 for a continue token, with a token for those who can live with an inconsistent rest."""

    token = ""

    @property
    def status(self) -> Obj:
        return {**super().status, "metadata": {"continue": self.token}}


def _item(obj: Obj) -> Obj:
    """An object inside a list carries no type of its own."""
    return {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
