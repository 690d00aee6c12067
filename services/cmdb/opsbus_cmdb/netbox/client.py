"""Requests to NetBox's REST API: bounded in time and size, paged by key, repeated where that is safe, and every failure
says which system and what to do. What the answers mean lives in mapping.py."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from opsbus import ErrorCode, ToolError
from opsbus.guard import BackendShutError, Guard
from opsbus_cmdb.http_backend import body_within, is_outage, is_passing, shut_out
from opsbus_cmdb.netbox.schema import Listing, StatusInfo, fields_of
from opsbus_contracts import Executed

M = TypeVar("M", bound=BaseModel)
Params = list[tuple[str, str]]

_AT_ONCE = 4
"""Requests at a time: a NetBox has few workers, and other users."""
_WAIT_MAX_S = 30.0
_NO_CHOICE = re.compile(r"Select a valid choice\. (.*) is not one of the available choices\.")
_WAY_IN = "give a token by NETBOX_TOKEN, or a file by NETBOX_TOKEN_FILE; a v2 token is nbt_<key>.<token>, whole"


class NoChoiceError(Exception):
    """NetBox does not know a value that it was to filter by."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"{name}: {value}")
        self.asked = (name, value)


class NetBox:
    """A NetBox at a URL. Open it with ``async with``.

    Args:
        url: https://netbox.example, with the path it is served under.
        token: v1 or v2 (`nbt_...`); empty: as nobody, where NetBox lets anyone read.
        timeout_s: For a request.
        body_bytes_max: For an answer.
        ca_file: Certificates to trust in place of the system's.
        patience: How often a read is tried; with 3 or fewer a 429's Retry-After is told and not waited for.
    """

    def __init__(
        self, url: str, token: str, *, timeout_s: float = 30.0, body_bytes_max: int = 16_000_000,
        ca_file: Path | None = None, patience: int = 3,
    ) -> None:  # fmt: skip
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("NetBox's address must look like https://netbox.example")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("NetBox's address holds no user, no query and no token")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.host = host if parts.port is None else f"{host}:{parts.port}"
        self.where = f"{parts.scheme}://{self.host}"
        self.plain = parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}
        """Whether the token goes over the network for anyone to read."""
        path = parts.path.rstrip("/")
        self._base = f"{self.where}{path.removesuffix('/api')}/api/"
        # Its messages are understood, so they have to be in one language.
        self._headers = {"Accept": "application/json", "Accept-Language": "en"}
        if token:
            # The prefix tells the version: v2 tokens, since 4.5, are bearer tokens.
            scheme = "Bearer" if token.startswith("nbt_") else "Token"
            self._headers["Authorization"] = f"{scheme} {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 5.0))
        self._body_bytes_max = body_bytes_max
        self._ca_file = ca_file
        self._patient = patience > 3
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._guard = Guard(is_outage, partial(is_passing, patient=self._patient), tries=patience)

    async def __aenter__(self) -> Self:
        connector = None
        if self._ca_file is not None:
            try:
                trusted = ssl.create_default_context(cafile=str(self._ca_file))
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"{self._ca_file} holds no certificates: {error}") from error
            connector = aiohttp.TCPConnector(ssl=trusted)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def version(self) -> str:
        """The version NetBox says it is."""
        return (await self._get("status/", StatusInfo, [])).version

    async def page(self, path: str, model: type[M], params: Params, limit: int, after: int = 0) -> Listing[M]:
        """Objects by id, those after an id; a value that NetBox does not know matches nothing.

        Pages are asked for by id and not by `next`: what is added or deleted meanwhile shifts nothing, and the token
        goes nowhere but to the address that was given.
        """
        asked = [*params, ("fields", fields_of(model)), ("ordering", "id"), ("limit", str(limit))]
        if after:
            asked.append(("id__gt", str(after)))
        found = await self._filtered(path, model, asked)
        if found is None:
            return Listing(count=0, next=None, results=[])
        last = after
        for item in found.results:
            key: int = getattr(item, "id")  # noqa: B009 - every model has one
            if key <= last:
                raise self._odd("GET", f"{path}/", f"object {key} after {last}, though ordered by id from there on")
            last = key
        if found.next and not found.results:
            raise self._odd("GET", f"{path}/", "an empty page that says there is another")
        return found

    async def pages(self, path: str, model: type[M], params: Params, limit: int) -> AsyncIterator[Listing[M]]:
        """All pages of a list."""
        after = 0
        while True:
            found = await self.page(path, model, params, limit, after)
            yield found
            if not found.next:
                return
            after = getattr(found.results[-1], "id")  # noqa: B009

    async def all(self, path: str, model: type[M], params: Params, limit: int = 200, most: int = 100_000) -> list[M]:
        """Everything that matches.

        Raises:
            ToolError: ``result_too_large`` past ``most``.
        """
        found: list[M] = []
        async for page in self.pages(path, model, params, limit):
            found += page.results
            if len(found) > most:
                raise ToolError(
                    ErrorCode.RESULT_TOO_LARGE,
                    f"NetBox at {self.where} has more than {most:,} objects for {path}",
                    hint="narrow it with filters",
                )
        return found

    async def count(self, path: str, params: Params) -> int:
        """How many match."""
        found = await self._filtered(path, _Id, [*params, ("fields", "id"), ("limit", "1")])
        if found is None:
            return 0
        if found.count is None:
            raise self._odd("GET", f"{path}/", "no count")
        return found.count

    async def _filtered(self, path: str, model: type[M], params: Params) -> Listing[M] | None:
        """A list, without the values that NetBox does not know; None when none is left that it could filter by.

        Of several values it refuses all for the one that nothing has, and of those it is to leave out as well.
        """
        left = list(params)
        while True:
            try:
                return await self._get(f"{path}/", Listing[model], left)  # type: ignore[valid-type]
            except NoChoiceError as unknown:
                name, _ = unknown.asked
                kept = [pair for pair in left if pair != unknown.asked]
                if len(kept) == len(left):
                    raise self._odd("GET", f"{path}/", f"a value it was not asked for ({name})") from None
                if not name.endswith("__n") and all(other != name for other, _ in kept):
                    return None
                left = kept

    async def one(self, path: str, key: int, model: type[M]) -> M | None:
        """An object by id; None when there is none, or none that the token may see."""
        try:
            return await self._get(f"{path}/{key}/", model, [("fields", fields_of(model))])
        except ToolError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return None
            raise

    async def patch(self, path: str, key: int, change: dict[str, Any], model: type[M], *, seen: str = "") -> M:
        """Change fields of an object; with ``seen`` (its ETag) only if nobody was faster, where NetBox compares it.

        Raises:
            ToolError: ``precondition_failed`` when somebody was.
        """
        return await self._write("PATCH", f"{path}/{key}/", change, model, {"If-Match": seen} if seen else {})

    async def create(self, path: str, draft: dict[str, Any], model: type[M]) -> M:
        """Make an object."""
        return await self._write("POST", f"{path}/", draft, model, {})

    async def _get(self, path: str, model: type[M], params: Params) -> M:
        return await self._through(lambda: self._asked("GET", path, model, params=params), read=True)

    async def _write(self, method: str, path: str, body: dict[str, Any], model: type[M], headers: dict[str, str]) -> M:
        return await self._through(lambda: self._asked(method, path, model, json=body, headers=headers), read=False)

    async def _through(self, work: Callable[[], Awaitable[M]], *, read: bool) -> M:
        try:
            return await (self._guard.read if read else self._guard.once)(work)
        except BackendShutError as shut:
            raise shut_out(shut) from None

    async def _asked(self, method: str, path: str, model: type[M], **request: Any) -> M:
        if self._session is None:
            raise RuntimeError("NetBox is used outside of its `async with`")
        try:
            # A redirect could carry the token to another host.
            async with (
                self._slots,
                self._session.request(method, self._base + path, allow_redirects=False, **request) as response,
            ):
                status, kind = response.status, response.content_type
                wait = response.headers.get("Retry-After", "")
                body = await self._body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer(method, error) from error
        if status >= 300:
            await self._refused(method, path, status, kind, body, wait)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            what = "HTML, no JSON: a login page or a proxy stands before it?" if kind == "text/html" else ""
            raise self._odd(method, path, what or f"something odd ({where}: {first['msg']})") from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = await body_within(response, self._body_bytes_max)
        if body is None:
            raise ToolError(
                ErrorCode.RESULT_TOO_LARGE,
                f"NetBox at {self.where} answered with more than {self._body_bytes_max:,} bytes",
                hint="ask for less: a filter, a smaller limit or page",
            )
        return body

    def _odd(self, method: str, path: str, what: str) -> ToolError:
        return ToolError(
            ErrorCode.BACKEND_ERROR if method == "GET" else ErrorCode.OUTCOME_UNKNOWN,
            f"NetBox at {self.where} answered {method} {path} with {what}",
            hint="check that the address is that of a NetBox 4.x, without a login page before its /api/",
        )

    def _no_answer(self, method: str, error: Exception) -> ToolError:
        slow = isinstance(error, asyncio.TimeoutError)
        unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        what = "did not answer in time" if slow else f"cannot be reached ({type(error).__name__})"
        hint = "check the address, and that NetBox is up, then try again"
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            what = "shows a certificate that is not trusted, or has expired"
            hint = "renew it, or name the CA's certificates (NETBOX_CA_FILE)"
        elif isinstance(error, aiohttp.ClientPayloadError):
            what = "broke off in the middle of its answer"
        if method != "GET" and not unsent:
            return ToolError(
                ErrorCode.OUTCOME_UNKNOWN,
                f"NetBox at {self.where} {what} after the change was sent: it may have been made",
                hint="look at the object's change log in NetBox before trying again",
            )
        return ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"NetBox at {self.where} {what}",
            hint=hint,
            details={"timed_out": slow},
            executed=Executed.NO,
        )

    async def _refused(self, method: str, path: str, status: int, kind: str, body: bytes, wait: str) -> NoReturn:
        said = _said(body) if kind == "application/json" else {}
        told = _first(said)
        unknown = _unknown(said) if status == 400 and method == "GET" else None
        if unknown:
            raise NoChoiceError(*unknown)
        if status in {401, 403}:
            lacks = "permission" in told
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"NetBox at {self.where} refused {method} {path} ({status}{f': {told}' if told else ''})",
                hint="give the token's user the permission to view these objects (to change them, for an export)"
                if lacks
                else _WAY_IN,
                details={"refused": status, "permission": lacks},
                executed=Executed.NO,
            )
        if status == 412:
            raise ToolError(
                ErrorCode.PRECONDITION_FAILED, "it was changed in NetBox meanwhile", hint="look at it again"
            )
        if status == 404 and said:
            raise ToolError(ErrorCode.NOT_FOUND, f"NetBox at {self.where} has no {path}", hint="it may be deleted")
        if status < 400 or status == 404:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"NetBox at {self.where} has no {path} ({'it redirects' if status < 400 else status})",
                hint="check the address: the one that /api/ is under, with https if it redirects there",
                executed=Executed.NO,
            )
        unwell = status in {429, 502, 503, 504}
        if status >= 500 and method != "GET" and not unwell:
            raise ToolError(
                ErrorCode.OUTCOME_UNKNOWN,
                f"NetBox at {self.where} failed with {status} while the change was made",
                hint="look at the object's change log in NetBox before trying again",
            )
        after_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
        if status == 429 and self._patient and method == "GET":
            await asyncio.sleep(min(after_s, _WAIT_MAX_S))
        raise ToolError(
            ErrorCode.BACKEND_UNAVAILABLE if unwell or status >= 500 else ErrorCode.BACKEND_ERROR,
            f"NetBox at {self.where} answered {method} {path} with {status}{f': {told}' if told else ''}",
            hint="try again shortly; if it stays, look at NetBox's own log" if unwell else "look at NetBox's own log",
            executed=Executed.NO if status < 500 or method == "GET" else None,
            retry_after_ms=int(after_s * 1000) or None,
        )


class _Id(BaseModel):
    id: int


def _said(body: bytes) -> dict[str, Any]:
    """An error of NetBox: ``{"detail": text}``, or texts by field."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _first(said: dict[str, Any]) -> str:
    for name, what in said.items():
        text = what[0] if isinstance(what, list) and what else what
        if isinstance(text, str):
            return (text if name == "detail" else f"{name}: {text}")[:300]
    return ""


def _unknown(said: dict[str, Any]) -> tuple[str, str] | None:
    for name, what in said.items():
        for text in what if isinstance(what, list) else []:
            found = _NO_CHOICE.fullmatch(text) if isinstance(text, str) else None
            if found:
                return name, found.group(1)
    return None
