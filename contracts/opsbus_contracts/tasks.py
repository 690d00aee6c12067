"""Tasks: calls that take long, as they stand in the bucket TASKS for every edge. Running them is the edge's matter.

What a client sees of them is the MCP extension ``io.modelcontextprotocol/tasks``; keys are SHA-256 digests of the ids
that clients hold, so that who reads the bucket cannot use them.
"""

from enum import StrEnum
from hashlib import sha256
from typing import Any

from pydantic import Field

from opsbus_contracts.calls import ClientInfo
from opsbus_contracts.model import Message


class TaskStatus(StrEnum):
    """Where a task stands, in MCP's words."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskQuestion(Message):
    """A question that is not answered yet."""

    key: str = Field(description="The worker's key; the client's is another one when the worker asks again.")
    request: dict[str, Any] = Field(description="MCP: ``{method, params}``.")


class TaskCall(Message):
    """With what the worker is called once the questions are answered."""

    arguments: str = Field(description="JSON object, as the client gave it.")
    request_state: str | None = Field(default=None, description="The worker's, unsealed.")
    idempotency_key: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Task(Message):
    """``$KV.TASKS.task.<digest>``."""

    sub: str = Field(max_length=256, description="Whose it is.")
    call: str = Field(max_length=64, description="The call under way, or the last one, as the record has it.")
    tool: str = Field(max_length=200, description="MCP name.")
    permission: str = Field(max_length=200, description="What the tool needs, and so who sees its result.")
    status: TaskStatus
    message: str = Field(default="", max_length=1_000, description="In words.")
    created_ms: int = Field(ge=0, description="Unix milliseconds.")
    updated_ms: int = Field(ge=0, description="Unix milliseconds.")
    ttl_ms: int = Field(gt=0, description="Kept this long from its creation. Milliseconds.")
    owner: str = Field(default="", max_length=64, description="The edge that runs it; empty: none does.")
    client: ClientInfo = Field(default_factory=ClientInfo)
    protocol: str = Field(default="", max_length=20)
    rounds: int = Field(default=0, ge=0, description="Rounds of questions so far.")
    issued: list[str] = Field(default_factory=list, description="Keys of questions that were ever asked.")
    questions: dict[str, TaskQuestion] = Field(default_factory=dict, description="By the client's key.")
    answers: dict[str, Any] = Field(default_factory=dict, description="By the worker's key; of this round.")
    again: TaskCall | None = Field(default=None, description="While it waits for answers.")
    error: dict[str, Any] | None = Field(default=None, description="JSON-RPC error of a failed one.")
    sealed: str = Field(
        default="",
        description="Whose it is, and what was asked, answered and said, as edges with a seal key keep them.",
    )


class TasksOfCaller(Message):
    """``$KV.TASKS.caller.<digest>``: what counts against a caller's share."""

    tasks: dict[str, int] = Field(default_factory=dict, description="Digest to expiry, Unix milliseconds.")


def task_digest(text: str) -> str:
    """Of a task's id or a caller's ``sub``: the last token of a key."""
    return sha256(text.encode()).hexdigest()[:40]
