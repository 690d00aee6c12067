"""Public keys in the bucket KEYS: fetched when first seen, remembered for half a minute.

Verifying with them lives in identity.py.
"""

import re
import time
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus.identity import PublicKey
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode
from opsbus_contracts.streams import KEYS

REMEMBER_S = 30.0
"""A key that was withdrawn vouches for no new token after this long at most. Seconds."""

MISS_S = 2.0
"""A key that was not there is not looked for again for this long. Seconds."""

MISSES_MAX = 256
"""Unknown key ids remembered. Beyond it nothing is looked up: made-up ids must not become a flood of requests."""

_KID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class _Entry(NamedTuple):
    key: Ed25519PublicKey | None
    not_after: int | None
    until: float


def key_name(kid: str) -> str:
    """The bucket's key."""
    return f"identity.{kid}"


class BucketKeys:
    """Keys out of the bucket KEYS."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bucket: KeyValue | None = None
        self._known: dict[str, _Entry] = {}

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """The key, or None when there is none, or it is past its time.

        Raises:
            ToolError: ``unavailable``: the bucket cannot be read.
        """
        if not _KID.fullmatch(kid):
            return None
        now = time.monotonic()
        entry = self._known.get(kid)
        if entry is None or entry.until <= now:
            entry = await self._lookup(kid, now)
        if entry.not_after is not None and entry.not_after < time.time():
            return None
        return entry.key

    async def _lookup(self, kid: str, now: float) -> _Entry:
        self._forget(now)
        if sum(entry.key is None for entry in self._known.values()) >= MISSES_MAX:
            raise ToolError(
                ErrorCode.UNAVAILABLE, "too many unknown keys were asked for", retry_after_ms=int(MISS_S * 1000)
            )
        found = await self._fetch(kid)
        if found is None:
            entry = _Entry(None, None, now + MISS_S)
        else:
            entry = _Entry(found.load(), found.not_after, now + REMEMBER_S)
        self._known[kid] = entry
        return entry

    def _forget(self, now: float) -> None:
        self._known = {kid: entry for kid, entry in self._known.items() if entry.until > now}

    async def _fetch(self, kid: str) -> PublicKey | None:
        try:
            if self._bucket is None:
                self._bucket = await self._js.key_value(KEYS.name)
            value = (await self._bucket.get(key_name(kid))).value
            key = PublicKey.model_validate_json(value or b"")
            key.load()
        except KeyNotFoundError:
            return None
        except (ValidationError, ValueError):
            return None  # a damaged record vouches for nobody
        except (errors.Error, TimeoutError) as error:
            raise ToolError(
                ErrorCode.UNAVAILABLE, f"the keys of identities cannot be read ({type(error).__name__})"
            ) from error
        return key


async def publish_key(js: JetStreamContext, key: PublicKey) -> bool:
    """Puts a public key where workers look for it. For the provisioner and the keeper: nobody else may write there.

    Returns:
        Whether the bucket has it otherwise than before.
    """
    bucket = await js.key_value(KEYS.name)
    body = key.model_dump_json(exclude_none=True).encode()
    try:
        before = (await bucket.get(key_name(key.kid))).value
    except KeyNotFoundError:
        before = None
    await bucket.put(key_name(key.kid), body)
    return body != before


async def withdraw_key(js: JetStreamContext, kid: str) -> None:
    """Takes a public key away; workers refuse its tokens within a minute, also those they verified before."""
    bucket = await js.key_value(KEYS.name)
    await bucket.delete(key_name(kid))
