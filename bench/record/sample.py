"""The events that the suites of the record write, read and search: what an edge records of a call, as bytes."""

from datetime import UTC, datetime
from typing import Any

import orjson

BEGAN = datetime(2026, 10, 1, tzinfo=UTC)
BEGAN_NS = int(BEGAN.timestamp()) * 1_000_000_000
LIFE = "AUDIT@20261001T000000.000000Z"
"""The life of the stream that they are of."""

_CALL: dict[str, Any] = {
    "roles": ["operator"], "auth": "jwt", "client": "assistant 1.4.2", "protocol": "2026-07-28",
    "method": "tools/call", "tool": "k8s_get_pods", "service": "k8s", "mutating": False, "address": "10.1.2.3",
    "rule": "policy.yaml:12 operator allow k8s:*",
}  # fmt: skip
_ASKED: dict[str, Any] = {
    "arguments": {"namespace": "shop", "limit": 50}, "arguments_digest": "ef" * 32, "request_bytes": 34,
    "deadline_ms": 10_000,
}  # fmt: skip
_ENDED: dict[str, Any] = {
    "version": "0.1.0", "instance": "k8s-12345678", "executed": "yes", "attempts": 1, "duration_ms": 12.3,
    "result_bytes": 4096, "result_digest": "ab" * 32,
}  # fmt: skip


def event(number: int, stage: str = "completed", at_ns: int = BEGAN_NS, **data: Any) -> bytes:
    """An event of a read.

    Args:
        number: Of the edge's events.
        stage: Of the call: what was asked stands in ``requested``, how it ended in the others.
        at_ns: When, in Unix nanoseconds.
        data: What is otherwise.
    """
    own = {"stage": stage, "seq": number, "call": f"{number:032x}", "trace_id": f"{number:032x}"}
    actor = {"actor": f"user-{number % 50}@shop.example"}
    return orjson.dumps(
        {
            "specversion": "1.0", "id": message_id(number), "source": "/opsbus/edge/edge-1",
            "type": f"opsbus.audit.v1.{stage}", "subject": data.get("tool", _CALL["tool"]),
            "time": datetime.fromtimestamp(at_ns // 1_000 / 1e6, UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": own | actor | _CALL | (_ASKED if stage == "requested" else _ENDED) | data,
        }
    )  # fmt: skip


def message_id(number: int) -> str:
    """Of an event, as the bus has it."""
    return f"edge-1-{number}"


def subject(stage: str = "completed") -> str:
    """Where an edge publishes an event."""
    return f"audit.edge.{stage}"
