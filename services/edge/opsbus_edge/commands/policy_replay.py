"""The calls of the record, decided on again with another policy. Nothing is sent to a worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import KeyNotFoundError
from pydantic import ValidationError

from opsbus import nats_client
from opsbus.bucket_keys import bucket_keys
from opsbus.commands.where import bus_settings
from opsbus.permission import touched
from opsbus_contracts import AuditEvent, Manifest
from opsbus_contracts.audit import Stage
from opsbus_contracts.errors import ErrorCode
from opsbus_contracts.names import mcp_name
from opsbus_contracts.streams import AUDIT, CATALOG
from opsbus_edge.gates.policy import Policy
from opsbus_edge.gates.policy.judge import judge

IDENTITY = "auditor"
CONNECT_S = 8.0
ANSWER_WITHIN_S = 30.0
CHANGES_MAX = 1_000
"""Changes told apart; the calls of further ones are counted."""
_HIDDEN = ("[redacted", "[nested too deep]")


class Tool(NamedTuple):
    """What a tool announces of itself, as far as a policy is concerned."""

    permission: str
    scope: dict[str, str]


@dataclass
class Change:
    """Calls that would be decided otherwise, alike in tool, roles, both decisions and what they touch."""

    before: str
    after: str
    tool: str
    roles: list[str]
    old_rule: str
    new_rule: str
    touches: str
    actor: str
    last: datetime
    calls: int = 0


@dataclass
class Replayed:
    """What came of it."""

    calls: int = 0
    changed_calls: int = 0
    changes: dict[tuple[Any, ...], Change] = field(default_factory=dict)
    undecided: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        changes = [asdict(change) | {"last": change.last.isoformat()} for change in self.changes.values()]
        return {
            "calls": self.calls,
            "changed_calls": self.changed_calls,
            "changes": changes,
            "undecided": dict(self.undecided),
        }


async def catalogue(data: Path) -> dict[str, Tool]:
    """The tools that workers offer now, by MCP name."""
    async with _connected(data) as client:
        return await _tools(client.jetstream(timeout=5.0))


async def replay(policy: Policy, since: datetime, data: Path) -> Replayed:
    """Decide on every recorded tool call since a time again."""
    found = Replayed()
    async with _connected(data) as client:
        js = client.jetstream(timeout=5.0)
        tools = await _tools(js)
        async for event in _events(js, since):
            _again(policy, tools, event, found)
    return found


def _again(policy: Policy, tools: dict[str, Tool], event: AuditEvent, found: Replayed) -> None:
    data = event.data
    denied = data.stage == Stage.DENIED and data.error == ErrorCode.FORBIDDEN
    if data.method != "tools/call" or not (data.stage == Stage.REQUESTED or denied):
        return
    tool = tools.get(data.tool)
    if tool is None:
        found.undecided["no worker offers the tool now"] += 1
        return
    roles = tuple(data.roles)
    granted = policy.grant(roles)
    arguments = data.arguments or {}
    if granted.grants and _is_hidden(arguments, tool):
        found.undecided["the record does not hold what they touched"] += 1
        return
    touches = touched(arguments, tool.scope)
    judged = judge(policy, roles, granted, tool.permission, lambda: touches, data.tool)
    found.calls += 1
    if judged.permitted is not denied:
        return
    before, after = ("denied", "permitted") if denied else ("permitted", "denied")
    shown = "; ".join(f"{name} {', '.join(values)}" for name, values in sorted(touches.items()))
    key = (before, data.tool, roles, data.rule, judged.rule, shown)
    found.changed_calls += 1
    if key not in found.changes and len(found.changes) >= CHANGES_MAX:
        found.undecided[f"more than {CHANGES_MAX} kinds of change: these are counted, not listed"] += 1
        return
    change = found.changes.setdefault(
        key, Change(before, after, data.tool, list(roles), data.rule, judged.rule, shown, data.actor, event.time)
    )
    change.calls += 1
    change.actor, change.last = data.actor, event.time


def _is_hidden(arguments: dict[str, Any], tool: Tool) -> bool:
    """Whether an argument that a condition could be about is not in the record."""
    if "_omitted" in arguments:
        return True
    stated = touched(arguments, tool.scope)
    return any(value.startswith(_HIDDEN) for values in stated.values() for value in values)


async def _tools(js: JetStreamContext) -> dict[str, Tool]:
    bucket = await js.key_value(CATALOG.name)
    found: dict[str, Tool] = {}
    for key in await bucket_keys(js, CATALOG.name):
        try:
            manifest = Manifest.model_validate_json((await bucket.get(key)).value or b"")
        except (ValidationError, KeyNotFoundError):
            continue  # gone meanwhile, or 'opsbus doctor' tells of it
        for spec in manifest.tools:
            found[mcp_name(manifest.service, spec.name)] = Tool(spec.permission, spec.scope)
    return found


async def _events(js: JetStreamContext, since: datetime) -> AsyncIterator[AuditEvent]:
    last = (await js.stream_info(AUDIT.name)).state.last_seq
    if not last:
        return
    config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    subscription = await js.subscribe("audit.edge.*", stream=AUDIT.name, config=config, ordered_consumer=True)
    try:
        info = await subscription.consumer_info()
        # What is sent is pending no more, and may not be here yet.
        sent = info.delivered.consumer_seq if info.delivered is not None else 0
        while info.num_pending or sent:
            message = await subscription.next_msg(timeout=ANSWER_WITHIN_S)
            event = _event(message.data)
            if event is not None:
                yield event
            if message.metadata.sequence.stream >= last or not message.metadata.num_pending:
                return
    finally:
        await subscription.unsubscribe()


def _event(body: bytes) -> AuditEvent | None:
    """None: it is no audit event, which the audit worker flags."""
    try:
        return AuditEvent.model_validate_json(body)
    except ValidationError:
        return None


@asynccontextmanager
async def _connected(data: Path) -> AsyncIterator[Client]:
    settings = bus_settings(IDENTITY, data)
    async with asyncio.timeout(CONNECT_S):
        client = await nats_client.connect(settings, IDENTITY, name="opsbus-policy")
    try:
        yield client
    finally:
        await nats_client.close(client)
