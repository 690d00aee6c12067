"""A caller that plays the edge: mints identities, sends calls, collects replies.

For tests and benchmarks, over the real bus.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from opsbus.identity import Signer
from opsbus_contracts import ErrorBody, Header, Identity, Status
from opsbus_contracts.calls import FINAL
from opsbus_contracts.subjects import cancel_subject, mcp_subject, tool_subject

NO_RESPONDERS = "503"


class NoRespondersError(Exception):
    """Nobody listens: not executed."""


@dataclass(frozen=True)
class Message:
    """One message of a reply."""

    status: Status
    body: bytes
    headers: dict[str, str]

    @property
    def data(self) -> Any:
        """The body as JSON; None when it is empty."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Reply(Message):
    """The final message of a call, with those before it."""

    messages: list[Message] = field(default_factory=list)

    @property
    def result(self) -> dict[str, Any]:
        """The MCP result.

        Raises:
            AssertionError: the reply is an error.
        """
        if self.status is Status.ERROR:
            raise AssertionError(f"the call failed: {self.body.decode()}")
        return json.loads(self.body)  # type: ignore[no-any-return]

    @property
    def structured(self) -> Any:
        """``structuredContent`` of the result."""
        return self.result.get("structuredContent")

    @property
    def text(self) -> str:
        """The text of the result's content."""
        return "\n".join(block["text"] for block in self.result["content"] if block["type"] == "text")

    @property
    def error(self) -> ErrorBody:
        """The error.

        Raises:
            AssertionError: the reply is none.
        """
        if self.status is not Status.ERROR:
            raise AssertionError(f"the call succeeded: {self.body.decode()[:2000]}")
        return ErrorBody.model_validate_json(self.body)

    @property
    def executed(self) -> str:
        """``yes``, ``no`` or ``unknown``."""
        return self.headers[Header.EXECUTED]

    def of(self, status: Status) -> list[Message]:
        """The earlier messages of a kind."""
        return [message for message in self.messages if message.status is status]


class Caller:
    """Sends calls as an edge does."""

    def __init__(self, client: Client, signer: Signer, errors: Sequence[Exception] = ()) -> None:
        """``errors``: what the connection reported; told when a reply does not come."""
        self.client = client
        self.signer = signer
        self._errors = errors
        self._inbox = f"_INBOX.edge.{secrets.token_hex(6)}"
        self._waiting: dict[str, asyncio.Queue[Msg]] = {}
        self._tokens: dict[str, tuple[float, str]] = {}

    async def start(self) -> None:
        """Listens on the inbox."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._receive)
        await self.client.flush()
        await self.client.flush()

    async def call(self, service: str, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Reply:
        """Calls a tool. ``options`` as in ``send``."""
        return await self.send(tool_subject(service, tool), {"arguments": arguments or {}}, **options)

    async def read(self, service: str, uri: str, **options: Any) -> Reply:
        """Reads a resource."""
        return await self.send(mcp_subject(service, "resources_read"), {"uri": uri}, **options)

    async def prompt(self, service: str, name: str, arguments: dict[str, str] | None = None, **options: Any) -> Reply:
        """Gets a prompt."""
        body = {"name": name, "arguments": arguments or {}}
        return await self.send(mcp_subject(service, "prompts_get"), body, **options)

    async def complete(
        self,
        service: str,
        ref: dict[str, str],
        name: str,
        value: str,
        context: dict[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        """Completes an argument."""
        body = {"ref": ref, "argument": {"name": name, "value": value}, "context": context or {}}
        return await self.send(mcp_subject(service, "completion_complete"), body, **options)

    async def cancel(self, service: str, call_id: str, reason: str = "") -> None:
        """Cancels a call on whichever instance runs it."""
        await self.client.publish(cancel_subject(service), json.dumps({"call": call_id, "reason": reason}).encode())

    async def send(
        self,
        subject: str,
        body: dict[str, Any] | bytes,
        *,
        identity: Identity | str | None = "tester",
        permissions: list[str] | None = None,
        client: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        input_responses: dict[str, Any] | None = None,
        request_state: str | None = None,
        log_level: str | None = None,
        progress: bool = False,
        call_id: str | None = None,
        deadline_s: float = 30.0,
        timeout_s: float = 40.0,
        headers: dict[str, str] | None = None,
        on_message: Any = None,
    ) -> Reply:
        """Sends a request and waits for its final reply.

        Args:
            identity: A caller's name, an Identity, or a ready token ``a.b.c``; None: the header is left out.
            permissions: Of a caller by name; default: all.
            client: ClientInfo, ``{"capabilities": {"elicitation": {}}}``.
            deadline_s: From now, sent in the header; 0: the header is left out.
            headers: Further headers; they beat the others.
            on_message: Called with each Message before the final one.

        Raises:
            NoRespondersError: nobody listens on the subject.
            TimeoutError: no final reply within ``timeout_s``.
        """
        call_id = call_id or secrets.token_hex(16)
        sent: dict[str, str] = {Header.CALL: call_id, Header.ATTEMPT: "1"}
        if deadline_s:
            sent[Header.DEADLINE] = str(int((time.time() + deadline_s) * 1000))
        if identity is not None:
            sent[Header.IDENTITY] = self.token(identity, permissions, _service_of(subject))
        if idempotency_key is not None:
            sent[Header.IDEMPOTENCY_KEY] = idempotency_key
        if isinstance(body, dict):
            extra = {
                "client": client,
                "input_responses": input_responses,
                "request_state": request_state,
                "log_level": log_level,
                "progress": progress,
            }
            body = json.dumps(body | {key: value for key, value in extra.items() if value is not None}).encode()
        token = secrets.token_hex(8)
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._waiting[token] = queue
        try:
            plain = {str(key): value for key, value in (sent | (headers or {})).items()}
            await self.client.publish(subject, body, reply=f"{self._inbox}.{token}", headers=plain)
            async with asyncio.timeout(timeout_s):
                return await self._collect(queue, on_message)
        except TimeoutError:
            raise TimeoutError(f"{subject}: no final reply in {timeout_s} s; NATS said: {list(self._errors)}") from None
        finally:
            del self._waiting[token]

    def token(self, identity: Identity | str, permissions: list[str] | None = None, service: str = "") -> str:
        """A token for the header; one per caller, permissions and service, as long as it holds."""
        if isinstance(identity, Identity):
            return self.signer.sign(identity)
        if identity.count(".") == 2:
            return identity
        granted = ["*"] if permissions is None else permissions
        key = json.dumps([identity, granted, service])
        until, token = self._tokens.get(key, (0.0, ""))
        if until < time.time():
            until, token = (
                time.time() + 120,
                self.signer.mint(identity, permissions=granted, auth="test", service=service),
            )
            self._tokens[key] = (until, token)
        return token

    async def _collect(self, queue: "asyncio.Queue[Msg]", on_message: Any) -> Reply:
        before: list[Message] = []
        while True:
            msg = await queue.get()
            headers = dict(msg.headers or {})
            if headers.get("Status") == NO_RESPONDERS:
                raise NoRespondersError(msg.subject)
            status = Status(headers[Header.STATUS])
            if status in FINAL:
                return Reply(status, msg.data, headers, before)
            before.append(Message(status, msg.data, headers))
            if on_message is not None:
                on_message(before[-1])

    async def _receive(self, msg: Msg) -> None:
        queue = self._waiting.get(msg.subject.rsplit(".", 1)[-1])
        if queue is not None:
            queue.put_nowait(msg)


def _service_of(subject: str) -> str:
    """``tool.k8s.get_pods`` is for k8s."""
    parts = subject.split(".")
    return parts[1] if len(parts) > 2 else ""
