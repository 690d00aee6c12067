"""The key that signs identities, taken up anew when its file changes: no restart, and no call without a known key.

Making and publishing a key: ``opsbus keys rotate-identity``. Minting with it: identity.py.
"""

import asyncio
import time
from pathlib import Path

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus import logs, tasks
from opsbus.identity import PublicKey, Signer
from opsbus.keys import key_name
from opsbus.settings import SettingsError
from opsbus_contracts.streams import KEYS
from opsbus_edge import keyfiles
from opsbus_edge.identity import Minter

log = logs.get("edge")

LOOK_EVERY_S = 1.0
SETTLE_S = 1.0
"""A new key is used this long after it was first seen in the bucket: workers may read a replica that is behind."""


class SigningKey:
    """The key in ``path``, and whoever mints with it."""

    def __init__(self, path: Path, nc: Client, minter: Minter) -> None:
        self._path = path
        self._js = nc.jetstream(timeout=2.0)
        self._bucket: KeyValue | None = None
        self._minter = minter
        self._state = _state(path)
        self._waiting: Signer | None = None
        self._visible_since = 0.0
        self._complained = ""
        self._look_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the file."""
        self._task = asyncio.create_task(self._run(), name="signing-key")

    async def stop(self) -> None:
        """End it."""
        await tasks.end(self._task)

    @property
    def signer(self) -> Signer:
        """The key in force."""
        return self._minter.signer

    def reload(self) -> None:
        """Look at the file now, whatever its time of change says (SIGHUP)."""
        self._state = None
        self._look_now.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S if self._waiting is None else LOOK_EVERY_S / 4):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            self._read_again()
            if self._waiting is not None:
                await self._take_up(self._waiting)

    def _read_again(self) -> None:
        """A file that changed gives the next key; one that cannot be used leaves the present one in force."""
        state = _state(self._path)
        if state == self._state:
            return
        try:
            signer = keyfiles.signer(self._path, "identity_key_file")
        except SettingsError as error:
            self._complain(f"the new signing key is not taken: {error}")
            return  # looked at again at the next tick: it may have been half written
        self._state = state
        self._complained = ""
        self._waiting = signer if signer.kid != self._minter.kid else None
        self._visible_since = 0.0

    async def _take_up(self, signer: Signer) -> None:
        """Mint with the key once its public part has been in the bucket for a moment."""
        try:
            visible = await self._is_visible(signer)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            self._complain(f"the new signing key waits: the bucket {KEYS.name} cannot be read ({type(error).__name__})")
            return
        if not visible:
            self._visible_since = 0.0
            self._complain(f"the new signing key {signer.kid} waits: its public part is not in the bucket {KEYS.name}")
        elif not self._visible_since:
            self._visible_since = time.monotonic()
        elif time.monotonic() - self._visible_since >= SETTLE_S:
            log.info("identities are signed by a new key", kid=signer.kid, before=self._minter.kid)
            self._minter.renew(signer)
            self._waiting = None

    async def _is_visible(self, signer: Signer) -> bool:
        if self._bucket is None:
            self._bucket = await self._js.key_value(KEYS.name)
        try:
            value = (await self._bucket.get(key_name(signer.kid))).value or b""
            key = PublicKey.model_validate_json(value)
            same = key.load().public_bytes_raw() == signer.private_key.public_key().public_bytes_raw()
            return same and (key.not_after is None or key.not_after > time.time())
        except (nats.js.errors.KeyNotFoundError, ValidationError, ValueError):
            return False

    def _complain(self, problem: str) -> None:
        if problem != self._complained:
            self._complained = problem
            log.warning("signing key", problem=problem)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
