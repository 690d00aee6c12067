"""Which recorded calls may be sent again. Two must agree that a call only reads, the record and the catalogue, and
whatever is not plainly so is left out."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson

from opsbus_contracts import Manifest
from opsbus_contracts.catalog import ToolSpec
from opsbus_contracts.names import mcp_name

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MARK = re.compile(r"\[redacted\b", re.IGNORECASE)
_EMPTY = (b"", b"{}")


class Skipped(StrEnum):
    """Why a call is not sent again."""

    NO_TOOL_CALL = "no tool call"
    MUTATING = "may change something, by the record"
    NOT_READ_ONLY = "not read-only, by the catalogue"
    UNKNOWN_TOOL = "not in the catalogue"
    REDACTED = "arguments redacted"
    NOT_RECORDED = "arguments not recorded whole"
    NOT_ENDED = "no result recorded"
    OVER_LIMIT = "over --max"


def reads_of(service: str, manifests: Sequence[Manifest]) -> tuple[dict[str, ToolSpec], set[str]]:
    """Tools of a service by MCP name: those that every live instance says only read, and all the others.

    An instance that disagrees makes the tool one that may change something.
    """
    reads: dict[str, ToolSpec] = {}
    others: set[str] = set()
    for manifest in manifests:
        if manifest.service != service:
            continue
        for tool in manifest.tools:
            name = mcp_name(service, tool.name)
            hints = tool.annotations
            if hints.read_only is True and hints.destructive is False:
                reads[name] = tool
            else:
                others.add(name)
    return {name: tool for name, tool in reads.items() if name not in others}, others


def refusal(data: Mapping[str, Any], reads: Mapping[str, ToolSpec], others: set[str]) -> Skipped | None:
    """Why the call of a ``requested`` event is not sent again; None: it may be.

    Args:
        data: ``data`` of the event.
        reads: Tools that only read, by MCP name.
        others: Tools that may change something.
    """
    if data.get("stage") != "requested" or data.get("method", "tools/call") != "tools/call":
        return Skipped.NO_TOOL_CALL
    # Absent or false, and nothing else: 0, "", null and "false" are no word of the edge's.
    if data.get("mutating", False) is not False:
        return Skipped.MUTATING
    tool = data.get("tool")
    if not isinstance(tool, str) or not tool:
        return Skipped.NO_TOOL_CALL
    if tool in others:
        return Skipped.NOT_READ_ONLY
    if tool not in reads:
        return Skipped.UNKNOWN_TOOL
    if data.get("idempotency_key"):
        return Skipped.MUTATING
    return _arguments_refusal(data)


def _arguments_refusal(data: Mapping[str, Any]) -> Skipped | None:
    arguments, digest = data.get("arguments"), data.get("arguments_digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return Skipped.REDACTED
    if arguments is None:
        return None if digest in {hashlib.sha256(empty).hexdigest() for empty in _EMPTY} else Skipped.NOT_RECORDED
    if not isinstance(arguments, dict):
        return Skipped.NOT_RECORDED
    if _MARK.search(orjson.dumps(arguments).decode()):
        return Skipped.REDACTED
    if digest not in {hashlib.sha256(form).hexdigest() for form in _spellings(arguments)}:
        return Skipped.NOT_RECORDED
    return None


def _spellings(arguments: dict[str, Any]) -> list[bytes]:
    """How clients write JSON. The digest is of the bytes as they came; one of these must be them."""
    return [
        orjson.dumps(arguments),
        json.dumps(arguments).encode(),
        json.dumps(arguments, ensure_ascii=False).encode(),
        json.dumps(arguments, separators=(",", ":")).encode(),
    ]
