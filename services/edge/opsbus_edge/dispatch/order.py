"""A request made ready for the bus: subject, body, headers, and what may be done when a worker is lost."""

from dataclasses import dataclass
from functools import lru_cache

import orjson

from opsbus_contracts.calls import ClientInfo, Header
from opsbus_contracts.subjects import mcp_subject, tool_subject
from opsbus_edge.catalog import PromptEntry, ResourceEntry, ToolEntry
from opsbus_edge.model import Request

Target = ToolEntry | ResourceEntry | PromptEntry

METHOD_TIMEOUT_S = 30.0
"""Resources, prompts and completions declare no time of their own. Seconds."""

_KEPT_BYTES_MAX = 2_048
"""Of a client's capabilities, as JSON."""

_CALL, _DEADLINE, _IDENTITY = Header.CALL.value, Header.DEADLINE.value, Header.IDENTITY.value
_TRACEPARENT, _TRACESTATE = Header.TRACEPARENT.value, Header.TRACESTATE.value

_BY_THEMSELVES = "confirm"
_TWO_PERSON = "two_person"


@dataclass(slots=True)
class Order:
    """What the dispatcher publishes, as often as it takes."""

    call: str
    service: str
    subject: str
    body: bytes
    headers: dict[str, str]
    deadline_ms: int
    """Absolute, Unix milliseconds."""
    timeout_s: float
    mutating: bool
    repeatable: bool
    """Running it twice does no harm."""
    instances: int
    """Instances that offer the target, as far as the catalogue knows."""


def subject_of(request: Request, target: Target) -> str:
    """Where workers listen for this request."""
    if isinstance(target, ToolEntry):
        return tool_subject(target.service, target.spec.name)
    return mcp_subject(target.service, request.method.replace("/", "_"))


def timeout_of(request: Request, target: Target, most_s: float) -> float:
    """Seconds the call may take: the caller's wish within what the tool declares and the edge allows."""
    declared = target.spec.timeout_s if isinstance(target, ToolEntry) else METHOD_TIMEOUT_S
    wished = request.timeout_s if request.timeout_s is not None and request.timeout_s > 0 else declared
    return min(wished, declared, most_s)


def body_of(request: Request, target: Target) -> bytes:
    """The request's JSON: the caller's bytes spliced in as they are, the rest around them."""
    if isinstance(target, ToolEntry):
        parts = [b'{"arguments":', request.params or b"{}"]
    elif isinstance(target, PromptEntry) and request.method == "prompts/get":
        parts = [b'{"name":', orjson.dumps(target.spec.name), b',"arguments":', request.params or b"{}"]
    elif request.method == "resources/read":
        parts = [b'{"uri":', orjson.dumps(request.target)]
    else:
        parts = [_completion(request, target)[:-1]]
    parts += [b',"client":', client_json(request.client)]
    if request.wants_progress:
        parts.append(b',"progress":true')
    if request.log_level:
        parts += [b',"log_level":', orjson.dumps(request.log_level)]
    if request.input_responses is not None:
        parts += [b',"input_responses":', request.input_responses]
    if request.request_state is not None:
        parts += [b',"request_state":', orjson.dumps(request.request_state)]
    parts.append(b"}")
    return b"".join(parts)


def client_json(client: ClientInfo) -> bytes:
    """A ClientInfo's JSON. Many calls are of few clients; what is large is not kept, for a client chooses it."""
    capabilities = orjson.dumps(client.capabilities)
    make = _kept_json if len(capabilities) <= _KEPT_BYTES_MAX else _client_json
    return make(client.name, client.version, client.protocol, capabilities)


def _client_json(name: str, version: str, protocol: str, capabilities: bytes) -> bytes:
    shown = orjson.Fragment(capabilities)
    return orjson.dumps({"name": name, "version": version, "protocol": protocol, "capabilities": shown})


_kept_json = lru_cache(maxsize=1_000)(_client_json)


def _completion(request: Request, target: Target) -> bytes:
    """The params with the prompt's name as its worker knows it."""
    params = orjson.loads(request.params)
    found = {name: params[name] for name in ("ref", "argument", "context") if params.get(name) is not None}
    if isinstance(target, PromptEntry):
        found["ref"] = {"type": "ref/prompt", "name": target.spec.name}
    return orjson.dumps(found)


def headers_of(request: Request, identity: str, deadline_ms: int, approval: str, policy: str) -> dict[str, str]:
    """The headers that are the same for every attempt.

    Args:
        approval: As the policy wants it; what workers do by themselves is not said.
        policy: Digest of the policy; said to who waits for a second person, for an approval holds for one policy.
    """
    headers = {
        _CALL: request.call,
        _DEADLINE: str(deadline_ms),
        _IDENTITY: identity,
    }
    if approval != _BY_THEMSELVES:
        headers[Header.APPROVAL.value] = approval
    if approval == _TWO_PERSON:
        headers[Header.POLICY.value] = policy
    if request.idempotency_key:
        headers[Header.IDEMPOTENCY_KEY.value] = request.idempotency_key
    if request.traceparent:
        headers[_TRACEPARENT] = request.traceparent
        if request.tracestate:
            headers[_TRACESTATE] = request.tracestate
    return headers
