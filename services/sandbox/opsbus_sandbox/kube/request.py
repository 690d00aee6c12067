"""What a request asks for: the path and method read as the API server reads them, and the parameters of a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opsbus_sandbox.kube.errors import bad_request, invalid_options, unsupported

_METHOD_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class RequestInfo:
    """A request for a resource, as authorization and routing see it. Absent parts are empty strings."""

    verb: str
    group: str
    version: str
    namespace: str
    resource: str
    name: str
    subresource: str

    @property
    def full_resource(self) -> str:
        """`pods` or `pods/log`, the form RBAC rules use."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def parse_path(method: str, path: str, query: Mapping[str, str]) -> RequestInfo | None:
    """The resource a path names, or None when it is not the path of a resource."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    verb = _METHOD_VERBS.get(method, "")
    if rest[0] == "watch" and len(rest) > 1:
        rest, verb = rest[1:], "watch"
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource, name = rest[0], rest[1] if len(rest) > 1 else ""
    subresource = "/".join(rest[2:])
    if resource == "namespaces" and name:
        namespace = name
    if not name:
        verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
    if verb == "list" and _truthy(query.get("watch", "")):
        verb = "watch"
    if verb in ("list", "watch") and not name:
        name = _name_in(query.get("fieldSelector", ""))
    return RequestInfo(verb, group, version, namespace, resource, name, subresource)


def _name_in(field_selector: str) -> str:
    for part in field_selector.split(","):
        key, _, value = part.partition("=")
        if key.strip() == "metadata.name":
            return value.lstrip("=").strip()
    return ""


def _truthy(text: str) -> bool:
    return text.lower() in ("1", "true", "t")


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean query parameter; absent is False. Raises ApiError 400 for anything but a boolean."""
    text = query.get(name, "").lower()
    if text in ("", "0", "false", "f"):
        return False
    if _truthy(text):
        return True
    raise bad_request(f'strconv.ParseBool: parsing "{query[name]}": invalid syntax')


def number(query: Mapping[str, str], name: str) -> int | None:
    """An integer query parameter, None when absent. Raises ApiError 400 for anything but an integer."""
    text = query.get(name, "")
    if text == "":
        return None
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def is_dry_run(query: Mapping[str, str], options_kind: str) -> bool:
    """Whether the write is asked for with `dryRun=All`. Raises ApiError 422 for any other value."""
    if "dryRun" not in query:
        return False
    if query["dryRun"] != "All":
        raise invalid_options(options_kind, unsupported("dryRun", query["dryRun"], ["All"]))
    return True
