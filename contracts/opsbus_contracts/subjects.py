"""The data flow in one table: subject, kind, publisher, consumer, model. Everything else is generated from here."""

from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel

from opsbus_contracts import access, audit, calls, catalog, errors, events, sessions, tasks


class Kind(StrEnum):
    """How a subject is used."""

    REQUEST = "request"
    """Core request-reply to one member of a queue group."""
    REPLY = "reply"
    """Core messages on the caller's inbox."""
    BROADCAST = "broadcast"
    """Core publish to every subscriber."""
    STREAM = "stream"
    """Stored by JetStream, acknowledged."""
    KV = "kv"
    """A key of a bucket."""
    MICRO = "micro"
    """NATS micro service discovery (ADR-32)."""


class Subject(NamedTuple):
    """One row. ``<word>`` stands for one token, a trailing ``>`` for the rest."""

    subject: str
    kind: Kind
    publisher: str
    consumer: str
    model: type[BaseModel] | None
    reply: tuple[type[BaseModel], ...]
    about: str

    @property
    def wildcard(self) -> str:
        """The subject with ``*`` for every placeholder."""
        return ".".join("*" if token.startswith("<") else token for token in self.subject.split("."))


_REPLIES = (calls.Progress, calls.LogMessage, errors.ErrorBody)

SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "tool.<service>.<tool>",
        Kind.REQUEST,
        "edge",
        "worker",
        calls.ToolCall,
        _REPLIES,
        "run a tool; queue group `<service>`",
    ),
    Subject(
        "mcp.<service>.resources_read", Kind.REQUEST, "edge", "worker", calls.ResourceRead, _REPLIES, "read a resource"
    ),
    Subject("mcp.<service>.prompts_get", Kind.REQUEST, "edge", "worker", calls.PromptGet, _REPLIES, "fill a prompt"),
    Subject(
        "mcp.<service>.completion_complete",
        Kind.REQUEST,
        "edge",
        "worker",
        calls.CompletionComplete,
        _REPLIES,
        "complete an argument",
    ),
    Subject(
        "_INBOX.edge.<instance>.<call>",
        Kind.REPLY,
        "worker",
        "edge",
        None,
        (),
        "heartbeat, progress, log, then one of ok, input_required, error",
    ),
    Subject("cancel.<service>", Kind.BROADCAST, "edge", "worker", calls.Cancel, (), "end a running call"),
    Subject(
        "edge.<instance>.session",
        Kind.REQUEST,
        "edge",
        "edge",
        None,
        (sessions.SessionResponse,),
        "a session's request for the edge that owns it; head `SessionRequest` in a header",
    ),
    Subject(
        "edge.<instance>.cancel",
        Kind.BROADCAST,
        "edge",
        "edge",
        calls.Cancel,
        (),
        "the HTTP client of a forwarded request has gone, or wants a task of that edge ended (which is answered)",
    ),
    Subject(
        "edge.task.<digest>",
        Kind.BROADCAST,
        "edge",
        "edge",
        None,
        (),
        "a task is no longer what it was: who watches it looks at it; empty",
    ),
    Subject(
        "audit.<service>.<stage>",
        Kind.STREAM,
        "edge, worker, keeper, provisioner, auditor",
        "audit, auditor",
        audit.AuditEvent,
        (),
        "one step of a call, or of the platform itself; stream AUDIT",
    ),
    Subject(
        "event.<source>.<kind>",
        Kind.STREAM,
        "edge, worker",
        "edge, worker",
        events.Event,
        (),
        "something was seen or done; stream EVENTS",
    ),
    Subject(
        "checkpoint.audit",
        Kind.STREAM,
        "audit",
        "auditor",
        None,
        (),
        "signed tree head, a signed note; stream CHECKPOINTS",
    ),
    Subject(
        "checkpoint.witness",
        Kind.STREAM,
        "witness",
        "auditor",
        None,
        (),
        "a tree head with a witness's signature too; stream CHECKPOINTS",
    ),
    Subject(
        "shadow.<service>.<tool>",
        Kind.REQUEST,
        "auditor",
        "worker",
        calls.ToolCall,
        _REPLIES,
        "a recorded read again, for a candidate version; queue group `<service>`",
    ),
    Subject(
        "replay.<service>.>",
        Kind.BROADCAST,
        "auditor",
        "worker",
        audit.AuditEvent,
        (),
        "recorded events again, for a consumer in development; the recorded subject follows",
    ),
    Subject(
        "$KV.CATALOG.<service>.<instance>",
        Kind.KV,
        "worker",
        "edge",
        catalog.Manifest,
        (),
        "what an instance offers; gone when not put again",
    ),
    Subject(
        "$KV.KEYS.identity.<kid>",
        Kind.KV,
        "provisioner, keeper",
        "worker, edge",
        None,
        (),
        "public key that signs identities",
    ),
    Subject("$KV.APIKEYS.<id>", Kind.KV, "keeper", "edge", access.ApiKey, (), "an API key, as digests"),
    Subject("$KV.KEYUSE.<id>", Kind.KV, "edge", "keeper", access.KeyUse, (), "when an API key was used last"),
    Subject(
        "$KV.QUARANTINE.<kind>.<digest>",
        Kind.KV,
        "keeper",
        "edge, worker",
        access.Quarantine,
        (),
        "who or what is shut out, and why",
    ),
    Subject("$KV.LIMITS.<limit>.<digest>", Kind.KV, "edge", "edge", None, (), "a token bucket that edges lease from"),
    Subject("$KV.TASKS.task.<digest>", Kind.KV, "edge", "edge", tasks.Task, (), "a call that its client polls for"),
    Subject(
        "$KV.TASKS.result.<digest>",
        Kind.KV,
        "edge",
        "edge",
        None,
        (),
        "a task's result: the MCP result, sealed",
    ),
    Subject("$KV.TASKS.caller.<digest>", Kind.KV, "edge", "edge", tasks.TasksOfCaller, (), "the tasks that one has"),
    Subject("$KV.TASKS.edge.<instance>", Kind.KV, "edge", "edge", None, (), "a sign of life of an edge"),
    Subject(
        "$KV.SUBJECTKEYS.<kind>.<id>",
        Kind.KV,
        "edge, keeper",
        "audit, auditor",
        None,
        (),
        "pseudonym, and key, of a person's data in the record",
    ),
    Subject("$KV.IDEMPOTENCY.<service>.<digest>", Kind.KV, "worker", "worker", None, (), "first outcome of a key"),
    Subject("$KV.CONFIRMATIONS.<service>.<token>", Kind.KV, "worker", "worker", None, (), "a plan that waits"),
    Subject(
        "$KV.APPROVALS.<service>.<id>", Kind.KV, "worker", "approvals", access.ApprovalRequest, (), "a call that waits"
    ),
    Subject(
        "$KV.DECISIONS.<service>.<id>",
        Kind.KV,
        "approvals",
        "worker",
        access.ApprovalDecision,
        (),
        "approved or declined",
    ),
    Subject("$SRV.<verb>.>", Kind.MICRO, "operator", "worker", None, (), "PING, INFO, STATS for `nats micro`"),
)


def tool_subject(service: str, tool: str) -> str:
    """``tool.k8s.get_pods``."""
    return f"tool.{service}.{tool}"


def mcp_subject(service: str, method: str) -> str:
    """``mcp.k8s.resources_read``; method with underscores."""
    return f"mcp.{service}.{method}"


def cancel_subject(service: str) -> str:
    """``cancel.k8s``."""
    return f"cancel.{service}"


def task_subject(digest: str) -> str:
    """``edge.task.4f1c…``."""
    return f"edge.task.{digest}"


def audit_subject(service: str, stage: str) -> str:
    """``audit.edge.requested``."""
    return f"audit.{service}.{stage}"


def shadow_subject(service: str, tool: str) -> str:
    """``shadow.k8s.get_pods``."""
    return f"shadow.{service}.{tool}"


def event_subject(source: str, kind: str) -> str:
    """``event.k8s.deployment_scaled``."""
    return f"event.{source}.{kind}"


def inbox_prefix(identity: str) -> str:
    """``_INBOX.k8s``: every identity reads its own replies only."""
    return f"_INBOX.{identity}"
