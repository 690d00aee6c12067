"""The calls that wait and what was decided on them, as they stand in the buckets. Who may decide: tools.py."""

import time
from hashlib import sha256

from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus import ErrorCode, ToolError
from opsbus.bucket_keys import bucket_keys
from opsbus_contracts import ApprovalDecision, ApprovalRequest
from opsbus_contracts.streams import APPROVALS, DECISIONS

_CONFLICTS = (10071, 10164)
"""JetStream's error codes for another revision than the one expected."""


class Book:
    """Requests of all services, and the decisions on them."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def waiting(self) -> list[ApprovalRequest]:
        """Those that nobody has decided on yet and that are not over, the oldest first."""
        requests = await self._js.key_value(APPROVALS.name)
        decisions = await self._js.key_value(DECISIONS.name)
        found = []
        for key in await bucket_keys(self._js, APPROVALS.name):
            request = _request(await _value(requests, key))
            if (
                request is not None
                and request.expires_ms > _now_ms()
                and not _decided(await _value(decisions, key), request)
            ):
                found.append(request)
        return sorted(found, key=lambda one: (one.requested_ms, one.id))

    async def find(self, key: str) -> tuple[ApprovalRequest, str]:
        """A request that waits, and its digest as a decision quotes it.

        Raises:
            ToolError: ``not_found``; ``precondition_failed`` when it is over or decided.
        """
        body = await _value(await self._js.key_value(APPROVALS.name), key)
        request = _request(body)
        if request is None:
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"no call waits as {key}",
                hint="approvals_list shows those that do; it may have been withdrawn, or be done.",
            )
        if request.expires_ms <= _now_ms():
            raise ToolError(
                ErrorCode.PRECONDITION_FAILED, f"{key} is over", hint="Its caller can repeat the call to ask again."
            )
        if _decided(await _value(await self._js.key_value(DECISIONS.name), key), request):
            raise ToolError(ErrorCode.PRECONDITION_FAILED, f"{key} has been decided on")
        return request, sha256(body).hexdigest()

    async def decide(self, key: str, decision: ApprovalDecision) -> None:
        """Write a decision; the first one counts.

        Raises:
            ToolError: ``conflict`` when somebody decided at this moment; ``unavailable``.
        """
        bucket, body = await self._js.key_value(DECISIONS.name), decision.model_dump_json().encode()
        try:
            try:
                before = await bucket.get(key)
            except KeyNotFoundError:
                await bucket.create(key, body)
                return
            if ApprovalDecision.model_validate_json(before.value or b"{}").nonce == decision.nonce:
                raise _at_once()
            await bucket.update(key, body, last=before.revision)
        except KeyWrongLastSequenceError:
            raise _at_once() from None
        except errors.Error as error:
            if getattr(error, "err_code", None) in _CONFLICTS:
                raise _at_once() from None
            raise ToolError(
                ErrorCode.UNAVAILABLE, f"the decision could not be kept ({type(error).__name__}), so it does not count"
            ) from error


def _at_once() -> ToolError:
    return ToolError(ErrorCode.CONFLICT, "somebody decided on it at this moment", hint="approvals_list shows the rest.")


def _now_ms() -> int:
    return int(time.time() * 1000)


async def _value(bucket: KeyValue, key: str) -> bytes:
    try:
        return (await bucket.get(key)).value or b""
    except KeyNotFoundError:
        return b""


def _request(body: bytes) -> ApprovalRequest | None:
    """None: there is none, or one that a worker wrote wrongly, which nobody can approve."""
    try:
        return ApprovalRequest.model_validate_json(body) if body else None
    except ValidationError:
        return None


def _decided(body: bytes, request: ApprovalRequest) -> bool:
    try:
        return bool(body) and ApprovalDecision.model_validate_json(body).nonce == request.nonce
    except ValidationError:
        return False
