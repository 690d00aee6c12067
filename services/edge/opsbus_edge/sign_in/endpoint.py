"""``POST /auth/token``: ``{"user", "password"}`` in, a token out. Every refusal looks the same and takes as long."""

import asyncio
import time
from typing import TYPE_CHECKING

import nats.errors
import orjson
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from opsbus import logs
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.asgi.http import JSON, Receive, Scope, Send, answer, answer_error, client_address, read_body
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import error_body
from opsbus_edge.sign_in.found import DirectoryError, Found
from opsbus_edge.sign_in.throttle import Throttle
from opsbus_edge.sign_in.tokens import SessionTokens

if TYPE_CHECKING:
    from opsbus_edge.sign_in.directory import Directory

log = logs.get("edge")

PATH = "/auth/token"
BODY_BYTES_MAX = 8 * 1024
BODY_TIMEOUT_S = 10.0
REFUSED_AFTER_S = 0.5
"""A refusal is said this long after the attempt began, or at the next multiple: how long the directory took for a
user who is there, or for none, does not show."""
UNNAMED = "person-unknown"
_NO_STORE = (b"cache-control", b"no-store")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: str = Field(min_length=1, max_length=128)
    password: SecretStr = Field(max_length=1024)


class SignIn:
    """The endpoint.

    Args:
        directory: Who knows the passwords.
        tokens: Gives the tokens.
        throttle: Counts failures.
        nc: Connection of the edge; refusals are recorded over it.
        metrics: Counts outcomes.
        names: Whether the record may name who tried (``audit_personal: clear``).
    """

    def __init__(
        self,
        directory: "Directory",
        tokens: SessionTokens,
        throttle: Throttle,
        nc: Client,
        metrics: Metrics,
        *,
        names: bool,
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._throttle = throttle
        self._audit = PlatformAudit(nc.jetstream(timeout=2.0), "edge")
        self._metrics = metrics
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """One request to PATH."""
        if scope["method"] != "POST":
            error = error_body(ErrorCode.INVALID_REQUEST, "this method is not allowed here", hint="Use POST.")
            await answer_error(send, error, 405, [("allow", "POST")])
            return
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            error = error_body(ErrorCode.INVALID_REQUEST, "the body must be JSON", hint=_SHAPE)
            await answer_error(send, error, 415)
            return
        body = await read_body(receive, headers, BODY_BYTES_MAX, BODY_TIMEOUT_S)
        try:
            asked = _Asked.model_validate_json(body)
        except ValidationError:  # its words would quote what was sent
            await answer_error(send, error_body(ErrorCode.INVALID_REQUEST, "the body is no sign-in", hint=_SHAPE))
            return
        found = await self._attempt(asked.user, asked.password.get_secret_value(), client_address(scope))
        if isinstance(found, Found):
            await self._welcome(send, found)
        else:
            error, status = found
            challenge = [("www-authenticate", 'Bearer realm="opsbus"')] if status == 401 else []
            await answer_error(send, error, status, [("cache-control", "no-store"), *challenge])

    async def _welcome(self, send: Send, found: Found) -> None:
        self._metrics.authentication.labels("signed_in").inc()
        token = {
            "access_token": self._tokens.issue(found.sub, found.roles),
            "token_type": "Bearer",
            "expires_in": self._tokens.lifetime_s,
            "sub": found.sub,
            "roles": list(found.roles),
        }
        await answer(send, 200, orjson.dumps(token), [JSON, _NO_STORE])

    async def _attempt(self, user: str, password: str, source: str) -> Found | tuple[ErrorBody, int]:
        began = time.monotonic()
        wait_s = self._throttle.begin(user, source)
        if wait_s:
            self._metrics.authentication.labels("throttled").inc()
            return _too_many(wait_s), 429
        readable = user.isprintable() and user == user.strip() and "\0" not in password
        try:
            found = await self._directory.check(user, password) if readable else None
        except DirectoryError as error:
            self._throttle.no_failure(user, source)
            log.error("the directory cannot say", reason=str(error))
            return _away(), 503
        except BaseException:
            self._throttle.no_failure(user, source)
            raise
        if found is not None and found.roles:
            self._throttle.no_failure(user, source)
            return found
        self._metrics.authentication.labels("refused").inc()
        await self._record(user, source, "no role for the user's groups" if found else "wrong user name or password")
        if found is not None:
            self._throttle.no_failure(user, source)
            return _no_role(), 403
        took = time.monotonic() - began
        await asyncio.sleep(REFUSED_AFTER_S - took % REFUSED_AFTER_S)
        return _wrong(), 401

    async def _record(self, user: str, source: str, reason: str) -> None:
        try:
            await self._audit.record(
                PlatformStage.SIGN_IN_FAILED,
                actor=user if self._names else UNNAMED,
                address=source if self._names else "",
                target="ldap",
                reason=reason,
                auth="ldap",
            )
        except (NotRecordedError, nats.errors.Error) as error:
            log.error("a refused sign-in is not in the record", reason=str(error))


_SHAPE = 'Send {"user": "ada", "password": "..."} as application/json.'


def _wrong() -> ErrorBody:
    return error_body(
        ErrorCode.UNAUTHENTICATED,
        "user name or password is wrong",
        hint="Type both again; the directory's administrators know whether an account is locked.",
    )


def _no_role() -> ErrorBody:
    return error_body(
        ErrorCode.FORBIDDEN,
        "none of your groups has a role here",
        hint="Ask for a group that the setting ldap_group_roles of this edge names.",
    )


def _too_many(wait_s: int) -> ErrorBody:
    return error_body(
        ErrorCode.RATE_LIMITED,
        "too many sign-ins have failed",
        hint="Wait; whether the password is right is not looked at until then.",
        retry_after_ms=wait_s * 1000,
    )


def _away() -> ErrorBody:
    return error_body(
        ErrorCode.UNAVAILABLE,
        "the directory cannot be asked at this moment",
        hint="Try again in a few seconds; the edge's log says why.",
        retry_after_ms=5_000,
    )
