"""The token buckets that all edges share, in the bucket LIMITS: changed by compare-and-set alone."""

import asyncio
import random
import time
from hashlib import sha256
from typing import NamedTuple

import orjson
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from opsbus_contracts.streams import LIMITS
from opsbus_edge.limits.rate import Rate

TIMEOUT_S = 1.0
TRIES_MAX = 20
"""Another edge was first so often: something else is wrong."""


class Lease(NamedTuple):
    """What was got, or how long nothing will be."""

    tokens: int
    wait_s: float = 0.0


class SharedBuckets:
    """Takes from token buckets and gives back to them."""

    def __init__(self, nc: Client) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._bucket: KeyValue | None = None

    async def lease(self, limit: str, key: str, rate: Rate, wanted: int) -> Lease:
        """Up to ``wanted`` tokens, those that are there; none: how long until there is one.

        Raises:
            nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError: the bus does not do it.
        """
        bucket = await self._open()
        name = _name(limit, key)
        for _ in range(TRIES_MAX):
            tokens, at, revision = await self._read(bucket, name, rate)
            if tokens < 1:
                return Lease(0, (1 - tokens) / rate.per_s)
            taken = min(wanted, int(tokens))
            if await self._write(bucket, name, tokens - taken, at, revision):
                return Lease(taken)
            await asyncio.sleep(random.random() * 0.005)  # noqa: S311 - jitter
        raise TimeoutError("other edges were always first")

    async def give_back(self, limit: str, key: str, rate: Rate, tokens: int) -> None:
        """Tokens that were not spent.

        Raises:
            nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError: they are lost, for as long as it takes the
                bucket to gain as many.
        """
        bucket = await self._open()
        name = _name(limit, key)
        for _ in range(TRIES_MAX):
            there, at, revision = await self._read(bucket, name, rate)
            if await self._write(bucket, name, min(rate.burst, there + tokens), at, revision):
                return
            await asyncio.sleep(random.random() * 0.005)  # noqa: S311 - jitter

    async def _read(self, bucket: KeyValue, name: str, rate: Rate) -> tuple[float, float, int]:
        """Tokens there are by now, the moment, and the revision; a bucket that is not there is full."""
        now = time.time()
        try:
            entry = await bucket.get(name)
            state = orjson.loads(entry.value or b"{}")
            tokens, at = float(state["tokens"]), float(state["at"])
        except KeyNotFoundError as gone:
            return float(rate.burst), now, getattr(getattr(gone, "entry", None), "revision", None) or 0
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return 0.0, now, entry.revision or 0  # damaged: it fills again
        # A clock that is behind gains nothing and takes nothing away.
        gained = max(0.0, now - at) * rate.per_s
        return min(float(rate.burst), tokens + gained), max(now, at), entry.revision or 0

    async def _write(self, bucket: KeyValue, name: str, tokens: float, at: float, revision: int) -> bool:
        try:
            await bucket.update(name, orjson.dumps({"tokens": tokens, "at": at}), last=revision)
        except KeyWrongLastSequenceError:
            return False
        return True

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(LIMITS.name)
        return self._bucket


def _name(limit: str, key: str) -> str:
    return f"{limit}.{sha256(key.encode()).hexdigest()[:32]}"
