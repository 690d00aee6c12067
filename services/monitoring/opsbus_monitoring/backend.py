"""One HTTP backend, spoken to with care: bounded time and size, reads retried with jitter, every failure named.

Knows no system in particular; prometheus.py, alertmanager.py and grafana.py do.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from opentelemetry.propagate import inject

from opsbus.guard import WAIT_S, BackendShutError, Guard

Params = Mapping[str, str] | list[tuple[str, str]] | None

Through = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""A way through the guard: as a read or once."""

BODY_BYTES_MAX = 16 * 1024**2
_RETRIED = frozenset({429, 502, 503, 504})


class BackendError(Exception):
    """A backend did not do what it was asked.

    ``code`` is ``unavailable`` (no usable answer), ``unauthorized``, ``not_found``, ``conflict``, ``bad_request``,
    ``too_large`` or ``error``; ``retryable`` says whether the same call may succeed later; ``sent`` is false when the
    request surely never reached it.
    """

    def __init__(
        self,
        system: str,
        code: str,
        message: str,
        *,
        hint: str = "",
        retryable: bool = False,
        status: int = 0,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.system, self.code, self.message, self.hint = system, code, message, hint
        self.retryable, self.status, self.sent = retryable, status, sent


class Backend:
    """A system behind a base URL. One session; ``close`` ends it.

    Args:
        system: its name in messages: ``Prometheus``.
        setting: the setting that names its address, for hints: ``PROMETHEUS_URL``.
        timeout_s: for one try, in seconds.
    """

    def __init__(
        self,
        system: str,
        base_url: str,
        *,
        setting: str,
        headers: Mapping[str, str] | None = None,
        token: str = "",
        timeout_s: float = 10.0,
        retry_after_s: float = WAIT_S,
    ) -> None:
        self.system, self.base_url, self.setting = system, base_url.rstrip("/"), setting
        self._headers = {"Accept": "application/json", **(headers or {})}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._guard = Guard(_is_outage, _is_passing, wait_s=retry_after_s)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, params: Params = None) -> Any:
        """GET, retried; the JSON document.

        Raises:
            BackendError: no usable answer.
        """
        return await self._guarded(self._guard.read, "GET", path, params=params)

    async def read_by_post(self, path: str, form: Mapping[str, str]) -> Any:
        """A read whose parameters are too long for a URL: POST as a form, retried like a GET."""
        return await self._guarded(self._guard.read, "POST", path, form=form)

    async def write(self, method: str, path: str, body: Any = None) -> Any:
        """A write: tried once, since a silent backend may have done it."""
        return await self._guarded(self._guard.once, method, path, body=body)

    async def _guarded(self, through: Through, method: str, path: str, **given: Any) -> Any:
        try:
            return await through(lambda: self._once(method, path, **given))
        except BackendShutError as shut:
            raise BackendError(
                self.system,
                "unavailable",
                f"{shut.last} Several in a row failed; {self.system} is asked again in {shut.retry_in_s:.0f} s.",
                hint=f"Check that {self.system} runs at {self.base_url} ({self.setting}).",
                retryable=True,
                sent=False,
            ) from None

    async def _once(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        trace: dict[str, str] = {}
        inject(trace)  # the call's trace goes on in the backend
        try:
            async with self._session.request(
                method, self.base_url + path, params=params, data=form, json=body, headers=trace, allow_redirects=False
            ) as answer:
                raw = await self._read(answer)
                return self._judge(answer, raw)
        except TimeoutError:
            raise self._unavailable(f"did not answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientPayloadError:
            raise self._unavailable("broke off in the middle of its answer") from None
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            raise self._unavailable(f"shows a certificate that is not trusted ({error})", retryable=False) from None
        except aiohttp.ClientError as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise self._unavailable(f"cannot be reached ({type(error).__name__}: {error})", sent=sent) from None

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_chunked(65_536):
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise BackendError(
                    self.system,
                    "too_large",
                    f"{self.system} answered with more than {BODY_BYTES_MAX // 1024**2} MiB.",
                    hint="Ask for less: a narrower selector, a shorter range or a wider step.",
                )
            parts.append(part)
        return b"".join(parts)

    def _judge(self, answer: aiohttp.ClientResponse, raw: bytes) -> Any:
        status = answer.status
        document, is_json = _parse(raw)
        if 200 <= status < 300:
            if raw and not is_json:
                kind = answer.headers.get("Content-Type", "no content type")
                raise self._unavailable(
                    f"answered {kind} where JSON is expected; {self.setting} may name another system"
                )
            return document
        said = _words(document) or raw[:200].decode(errors="replace").strip() or "no words"
        if 300 <= status < 400:
            raise self._unavailable(f"redirects elsewhere (HTTP {status})", retryable=False)
        if status in (401, 403):
            raise BackendError(
                self.system,
                "unauthorized",
                f"{self.system} refuses us (HTTP {status}): {said}",
                hint=f"Check the token or headers set for {self.system}.",
                status=status,
            )
        if status in _RETRIED:
            raise self._unavailable(f"is overloaded or down (HTTP {status}): {said}", status=status)
        if status >= 500:
            raise BackendError(
                self.system,
                "error",
                f"{self.system} failed (HTTP {status}): {said}",
                hint=f"Look into the log of {self.system}.",
                status=status,
            )
        code = {404: "not_found", 409: "conflict", 412: "conflict"}.get(status, "bad_request")
        raise BackendError(self.system, code, f"{self.system} says: {said}", status=status)

    def _unavailable(self, what: str, *, retryable: bool = True, status: int = 0, sent: bool = True) -> BackendError:
        return BackendError(
            self.system,
            "unavailable",
            f"{self.system} {what}.",
            hint=f"Check that {self.system} runs at {self.base_url} ({self.setting}).",
            retryable=retryable,
            status=status,
            sent=sent,
        )


def _is_outage(error: Exception) -> bool:
    return isinstance(error, BackendError) and error.code == "unavailable"


def _is_passing(error: Exception) -> bool:
    return isinstance(error, BackendError) and error.retryable


def _parse(raw: bytes) -> tuple[Any, bool]:
    try:
        return json.loads(raw), True
    except ValueError:
        return None, False


def _words(document: Any) -> str:
    """The error text of a JSON answer: Prometheus' ``error``, Grafana's ``message``, Alertmanager's bare string."""
    if isinstance(document, dict):
        return str(document.get("error") or document.get("message") or "")
    return document if isinstance(document, str) else ""
