"""What can be told of a request from its bytes, without parsing it: enough to queue and to refuse it, no more.

Nothing that is found here lets anybody in or is passed on; where it is in doubt the connection is closed.
"""

import re

_BREAKS = re.compile(rb"\n(?:transfer-encoding:|expect:|connection:[ \t]*close|upgrade:)")
"""Requests whose end cannot be told from a length, or whose connection ends with them."""
_PROBES = tuple(
    f"{method} /{name} ".encode() for method in ("GET", "HEAD") for name in ("live", "ready", "health", "metrics")
)


def is_probe(data: bytes) -> bool:
    """Whether somebody asks how the edge is."""
    return data.startswith(_PROBES)


def credential(data: bytes) -> str | None:
    """The value of ``Authorization`` or ``X-API-Key``, as the application will see it."""
    start = data.find(b"uthorization:")
    if start < 0:
        start = data[:4096].lower().find(b"\nx-api-key:")
        if start < 0:
            return None
    end = data.find(b"\r\n", start)
    if end < 0:
        return None
    return data[data.index(b":", start) + 1 : end].strip().decode("latin-1")


def length(head: bytes) -> int | None:
    """How many bytes of body follow a head; None: when the request ends cannot be told, or the connection ends with it.

    Args:
        head: Up to the empty line, and with it.
    """
    if not head.endswith(b"\r\n\r\n") or not head[: head.find(b"\r\n")].endswith(b" HTTP/1.1"):
        return None
    head = head.lower()
    if _BREAKS.search(head):
        return None
    start = head.find(b"\ncontent-length:")
    if start < 0:
        return 0
    value = head[start + 16 : head.find(b"\r\n", start)].strip()
    if not value.isdigit() or len(value) > 9 or head.find(b"\ncontent-length:", start + 1) >= 0:
        return None
    return int(value)
