"""A call to the candidate, on ``shadow.<service>.<tool>``, and the same to the version in service, through the edge as
anybody calls it. Nothing else is ever published here."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from nats.aio.client import Client

from opsbus.identity import Signer
from opsbus_contracts import Header, Identity, Status
from opsbus_contracts.calls import FINAL, SILENCE_MAX_S
from opsbus_contracts.catalog import ToolSpec
from opsbus_contracts.identity import audience
from opsbus_contracts.subjects import shadow_subject

_NO_RESPONDERS = "503"
_LIFETIME_S = 300


class NoCandidateError(Exception):
    """Nobody listens on the shadow subject."""


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    status: str
    """``ok``, or an error code."""
    body: Any
    ms: float


class Candidate:
    """Sends calls to the candidate of one service."""

    def __init__(self, client: Client, service: str, signer: Signer, timeout_s: float) -> None:
        self._client = client
        self._service = service
        self._signer = signer
        self._timeout_s = timeout_s

    async def call(self, tool: ToolSpec, actor: str, arguments: dict[str, Any], roles: Sequence[str] = ()) -> Answer:
        """Send a read as the recorded caller in its roles, with the permission of this tool alone.

        Raises:
            NoCandidateError: nobody listens.
            ValueError: the tool is not read-only.
        """
        if tool.annotations.read_only is not True or tool.annotations.destructive is not False:
            raise ValueError(f"{tool.name} is not read-only")
        now = int(time.time())
        timeout = min(self._timeout_s, tool.timeout_s)
        identity = Identity(
            sub=actor or "(nobody)",
            roles=list(roles),
            permissions=[tool.permission],
            aud=audience(self._service),
            auth="shadow",
            iat=now,
            exp=now + _LIFETIME_S,
        )
        headers = {
            Header.CALL.value: secrets.token_hex(16),
            Header.ATTEMPT.value: "1",
            Header.DEADLINE.value: str(int((time.time() + timeout) * 1000)),
            Header.IDENTITY.value: self._signer.sign(identity),
        }
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        began = time.perf_counter()
        try:
            subject = shadow_subject(self._service, tool.name)
            await self._client.publish(subject, orjson.dumps({"arguments": arguments}), reply=inbox, headers=headers)
            async with asyncio.timeout(timeout + SILENCE_MAX_S):
                while True:
                    message = await subscription.next_msg(timeout=None)
                    said = message.headers or {}
                    if said.get("Status") == _NO_RESPONDERS:
                        raise NoCandidateError(f"no candidate of {self._service} listens on {subject}")
                    if said.get(Header.STATUS) in FINAL:
                        break
        except TimeoutError:
            return Answer("no answer", None, (time.perf_counter() - began) * 1000)
        finally:
            await subscription.unsubscribe()
        ms = (time.perf_counter() - began) * 1000
        status = said[Header.STATUS]
        if status == Status.OK and not said.get(Header.ERROR_CODE):
            return Answer("ok", _json(message.data), ms)
        return Answer(said.get(Header.ERROR_CODE) or status, _json(message.data), ms)


class Present:
    """Asks the version in service, through the edge's REST face."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    async def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
        """A read by its MCP name, as whoever holds the token."""
        began = time.perf_counter()
        try:
            async with self._http.post(
                f"{self._url}/api/v1/tools/{tool}/execute", json={"arguments": arguments}
            ) as answer:
                body = _json(await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            return Answer(f"edge: {type(error).__name__}", None, (time.perf_counter() - began) * 1000)
        ms = (time.perf_counter() - began) * 1000
        if answer.status == 200:
            return Answer("tool_error" if isinstance(body, dict) and body.get("isError") else "ok", body, ms)
        told = body.get("error") if isinstance(body, dict) else None
        return Answer(str(told.get("code")) if isinstance(told, dict) else f"http {answer.status}", body, ms)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"not_json": len(data)}
