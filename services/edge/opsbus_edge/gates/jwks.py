"""The public keys of an identity provider, by JWKS URL: cached, looked at again now and then and when a key is unknown.

While the provider is away the keys last known are believed, up to a bound.
"""

import asyncio
import json
import time
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from opsbus import logs, tasks

log = logs.get("edge")

FLOOR_S = 10.0
"""Between two looks that unknown keys cause: made-up ids must not become a flood at the provider."""
TIMEOUT_S = 5.0
BYTES_MAX = 512 * 1024
KEYS_MAX = 100
RSA_BITS_MIN = 2_048
KID_CHARS_MAX = 256


class KeysUnavailableError(Exception):
    """The provider's keys are not known, or too old."""


class Jwks:
    """Keys by id.

    Args:
        url: Of the key set.
        algorithms: Those that are taken; a key is for one of them, by its kind.
    """

    def __init__(self, url: str, algorithms: list[str], refresh_s: float, max_age_s: float) -> None:
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._refresh_s = refresh_s
        self._max_age_s = max_age_s
        self._keys: dict[str, tuple[str, Any]] = {}
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """Why the last look failed; empty: it did not."""

    async def start(self) -> None:
        """Look once, then now and then. A provider that is away stops nobody from starting."""
        await self._look()
        self._task = asyncio.create_task(self._run(), name="jwks")

    async def stop(self) -> None:
        """End it."""
        await tasks.end(self._task)
        await tasks.end(self._asking)

    async def get(self, kid: str) -> tuple[str, Any] | None:
        """``(algorithm, public key)``; None: the provider has no such key.

        Raises:
            KeysUnavailableError: nobody can tell at this moment.
        """
        found = self._current().get(kid)
        if found is None and time.monotonic() - self._asked_at >= FLOOR_S:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._look())
            await asyncio.shield(self._asking)
            found = self._current().get(kid)
        if found is None and (self.problem or not self._current()):
            raise KeysUnavailableError
        return found

    def _current(self) -> dict[str, tuple[str, Any]]:
        return self._keys if time.monotonic() - self._fetched_at <= self._max_age_s else {}

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self._look()

    async def _look(self) -> None:
        self._asked_at = time.monotonic()
        try:
            keys = _read(await self._fetch(), self._algorithms)
        except (httpx2.HTTPError, OSError, TimeoutError, ValueError) as error:
            said = f"{type(error).__name__}: {error}"[:200]
            if said != self.problem:
                log.warning("the provider's keys cannot be read, those before are believed", error=said)
            self.problem = said
            return
        if self.problem:
            log.info("the provider's keys can be read again")
        self._keys, self._fetched_at, self.problem = keys, time.monotonic(), ""

    async def _fetch(self) -> bytes:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx2.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("GET", self._url, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"the provider answered {answer.status_code}")
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > BYTES_MAX:
                    raise ValueError(f"the key set has more than {BYTES_MAX} bytes")
            return body


def _read(body: bytes, algorithms: frozenset[str]) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    document = json.loads(body)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("there is no list of keys")
    for one in keys[:KEYS_MAX]:
        kid = one.get("kid") if isinstance(one, dict) else None
        if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARS_MAX or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(one).key
        except (jwt.PyJWTError, ValueError):
            continue  # of a kind that is not known here
        algorithm = _algorithm(key)
        if algorithm in algorithms and one.get("alg", algorithm) == algorithm:
            found[kid] = (algorithm, key)
    return found


def _algorithm(key: Any) -> str:
    """The one algorithm a public key is for; empty: none. A secret is no key here, whatever it says it is for."""
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256" if key.key_size >= RSA_BITS_MIN else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ES256" if isinstance(key.curve, ec.SECP256R1) else ""
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else ""
