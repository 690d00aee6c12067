"""Host and Origin: a browser that was led here by DNS rebinding or a foreign page is turned away."""

from collections.abc import Mapping, Sequence

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.model import error_body


class Guard:
    """What ``allowed_hosts`` and ``allowed_origins`` let in: exact values, ``value:*`` for any port, ``*`` for all."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = Allowed(hosts)
        self._origins = Allowed(origins)

    def refusal(self, headers: Mapping[str, str]) -> tuple[ErrorBody, int] | None:
        """``(error, HTTP status)`` of a request that is turned away; None: it may pass."""
        host = headers.get("host", "")
        if not host:
            error = error_body(
                ErrorCode.INVALID_REQUEST, "the request has no Host header", hint="Send Host: and the name in the URL."
            )
            return error, 400
        if not self._hosts.has(host):
            error = error_body(
                ErrorCode.INVALID_REQUEST,
                "the Host header names no host of this edge",
                hint="The setting allowed_hosts lists them.",
            )
            return error, 421
        origin = headers.get("origin")
        if origin and not self._origins.has(origin):
            error = error_body(
                ErrorCode.FORBIDDEN,
                "pages of this Origin may not call this edge",
                hint="The setting allowed_origins lists those that may.",
            )
            return error, 403
        return None


class Allowed:
    """Values that are let in, by Guard's rules; what was decided is remembered."""

    def __init__(self, values: Sequence[str]) -> None:
        self._all = "*" in values
        self._exact = frozenset(value.lower() for value in values)
        self._any_port = frozenset(value[:-2].lower() for value in values if value.endswith(":*"))
        self._known: dict[str, bool] = {}

    def has(self, value: str) -> bool:
        """Whether the value of a header is one of them."""
        if self._all:
            return True
        found = self._known.get(value)
        if found is None:
            low = value.lower()
            head, colon, port = low.rpartition(":")
            found = low in self._exact or (bool(colon) and port.isdecimal() and head in self._any_port)
            if len(self._known) < 1_000:
                self._known[value] = found
        return found
