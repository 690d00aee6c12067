"""``event.cmdb.owners_listed``: all owners in parts, told at the start, soon after one changed, and every six hours.

Several workers with one store tell a listing once: each reads what was told, and a part's id is made of its content.
What readers do with it: ``opsbus.owners``.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256

import orjson
from nats.aio.client import Client

from opsbus import ToolError, tasks
from opsbus.event_teller import NotToldError, Teller
from opsbus.logs import Log
from opsbus.logs import get as get_log
from opsbus.nats_client import close, connect
from opsbus.owners import Listing, Owned, OwnersReader, part_of
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.settings import CmdbSettings

KIND = "owners_listed"
SERVICE = "cmdb"
EVERY_S = 6 * 3600.0
UNMARKED_S = 1800.0
"""A CMDB that does not tell whether something changed is read this often. Seconds."""
GATHER_S = 1.0
GATHER_MAX = 20
"""Changes that follow one another are told together: quiet for so long, or so many times not."""
READ_WITHIN_S = 10.0
MOST = 20_000
PART_MAX = 200
PART_BYTES_MAX = 400_000
RETRY_MAX_S = 60.0


@asynccontextmanager
async def telling(settings: CmdbSettings, inventory: Inventory) -> AsyncIterator[None]:
    """Owners are told while the block runs, where the settings want it. The inventory is there without the bus."""
    if settings.shadow or not settings.tell_owners:
        yield
        return
    task = asyncio.create_task(_tell(settings, inventory))
    try:
        yield
    finally:
        await tasks.end(task)


async def _tell(settings: CmdbSettings, inventory: Inventory) -> None:
    # A connection of its own: calls are drained to their end while this one is still reading.
    client = await connect(settings, SERVICE, name=f"{SERVICE}-owners")
    try:
        await OwnersTold(client, inventory, get_log(SERVICE, part="owners")).run(settings.owners_check_s)
    finally:
        await close(client)


class OwnersTold:
    """What was told last, by whomever, and what is to be told now."""

    def __init__(self, client: Client, inventory: Inventory, log: Log) -> None:
        self._teller = Teller(client, SERVICE)
        self._read = OwnersReader(client, SERVICE)
        self._inventory = inventory
        self._log = log
        self._mine: Listing | None = None
        self._mark: str | None = None
        self._looked = float("-inf")
        self._every_s = EVERY_S * random.uniform(0.9, 1.0)  # noqa: S311 - a scatter: the first of several tells it
        self._cut = False
        self._failed = ""

    async def run(self, check_s: float) -> None:
        """For ever; what goes wrong is logged once and tried again."""
        log = self._log
        await self._read.reader.start()
        try:
            await self._read.reader.ready(READ_WITHIN_S)
            wait_s = check_s
            while True:
                try:
                    await self.look()
                    wait_s = check_s
                    if self._failed:
                        self._log.info("owners are told again")
                    self._failed = ""
                except (ToolError, NotToldError) as error:
                    self._say_once(str(error))
                    wait_s = min(max(wait_s, 1.0) * 2, max(RETRY_MAX_S, check_s))
                except Exception as bug:  # owners that were told no more would grow old unseen
                    log.exception("telling owners failed", bug)
                    wait_s = RETRY_MAX_S
                await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - a scatter
        finally:
            await self._read.reader.stop()

    async def look(self) -> bool:
        """Whether a listing was told: something changed since the last one, or that one is old.

        Raises:
            ToolError: the inventory does not answer.
            NotToldError: the stream does not take it.
        """
        mark = await self._inventory.owners_mark()
        last = self._last()
        old = last is None or time.time() - last.at > self._every_s
        unmarked = mark is None and time.monotonic() - self._looked > UNMARKED_S
        if not old and not unmarked and mark == self._mark:
            return False
        mark = await self._quiet(mark)
        owners = await self._inventory.owned(MOST + 1)
        self._looked = time.monotonic()
        if len(owners) > MOST and not self._cut:
            self._log.warning("not all owners are told: there are too many", told=MOST)
        self._cut = len(owners) > MOST
        owners = owners[:MOST]
        digest = digest_of(owners)
        last = self._last()
        if old or last is None or not last.name.startswith(f"{digest}-"):
            await self._tell(digest, last, owners)
            self._mark = mark
            return True
        self._mark = mark
        return False

    async def _quiet(self, mark: str | None) -> str | None:
        if self._mark is None:
            return mark  # the first look: nobody waits for what may come
        for _ in range(GATHER_MAX):
            await asyncio.sleep(GATHER_S)
            before, mark = mark, await self._inventory.owners_mark()
            if mark == before:
                break
        return mark

    async def _tell(self, digest: str, last: Listing | None, owners: list[Owned]) -> None:
        name = f"{digest}-{last.sequence if last else 0}"
        parts = parts_of(owners)
        sequence = 0
        for place, part in enumerate(parts, 1):
            told = await self._teller.tell(KIND, part_of(name, place, len(parts), part), fact=(name, place, len(parts)))
            sequence = told.sequence
        self._mine = Listing(name, sequence, time.time())
        self._log.info("owners told", owners=len(owners), parts=len(parts), listing=name)

    def _last(self) -> Listing | None:
        known = [listing for listing in (self._read.known.listing, self._mine) if listing is not None]
        return max(known, key=lambda listing: listing.sequence, default=None)

    def _say_once(self, why: str) -> None:
        if why != self._failed:
            self._log.warning("owners could not be told; trying again", why=why)
        self._failed = why


def digest_of(owners: Sequence[Owned]) -> str:
    """The same for the same owners."""
    return sha256(b"\n".join(_line(owned) for owned in owners)).hexdigest()[:16]


def parts_of(owners: Sequence[Owned]) -> list[list[Owned]]:
    """At most so many and so large that each goes into one message; at least one part, if an empty one."""
    parts: list[list[Owned]] = [[]]
    size = 0
    for owned in owners:
        length = len(_line(owned)) + 1
        if len(parts[-1]) >= PART_MAX or (parts[-1] and size + length > PART_BYTES_MAX):
            parts.append([])
            size = 0
        parts[-1].append(owned)
        size += length
    return parts


def _line(owned: Owned) -> bytes:
    return orjson.dumps(owned.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
