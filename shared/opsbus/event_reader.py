"""Events of one subject, read in their order by every instance for itself, through lost consumers and new streams.

What they mean is the reader's matter (``owners.py`` is one). Where the state lies in a store that instances share, a
durable consumer is right in place of this. Telling events: ``event_teller.py``.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from opsbus import logs, tasks
from opsbus_contracts import Event
from opsbus_contracts.streams import ReaderSpec

log = logs.get("bus")

BATCH = 200
EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
SILENT_S = 12.0
"""A consumer that has said nothing for so long, not even that it lives, is made anew. Seconds."""
ANSWER_WITHIN_S = 5.0
INACTIVE_S = 60.0
"""When the server takes the place of an instance that died. Seconds."""
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
BACKOFF_DENIED_S = 60.0
TICK_S = 1.0

_TAKEN = 10148
_NO_STREAM = 10059


class Seen(NamedTuple):
    """An event as it lies in the stream."""

    sequence: int
    event: Event


Apply = Callable[[Seen], None]


class _LostError(Exception):
    """The consumer is gone, or what it sends has a hole: another one must go on from where this one was."""


class _NotNowError(Exception):
    """No consumer can be made at this moment."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class EventReader:
    """One task that owns a consumer of its own. ``start`` returns at once: nobody waits for a stream that is missing.

    Args:
        nc: A connection whose identity the reader is declared for.
        spec: What is read, as the contracts declare it.
        apply: Told every event, in order; again from the first when more is read after all, or the stream is another.
            Must not raise.
        forget: Told when the stream is another one than before: what was applied counts no more.
        recent_s: Only what is younger is read at first, where ``enough`` says afterwards that it was.
    """

    def __init__(
        self,
        nc: Client,
        spec: ReaderSpec,
        apply: Apply,
        *,
        forget: Callable[[], None] | None = None,
        recent_s: float | None = None,
        enough: Callable[[], bool] = lambda: True,
    ) -> None:
        self.spec = spec
        self.unreadable = 0
        """Events of the stream that were none."""
        self._nc = nc
        self._apply = apply
        self._forget = forget
        self._recent_s = recent_s
        self._enough = enough
        self._last = 0
        self._stored: datetime | None = None
        self._caught_up = asyncio.Event()
        self._heard = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._silenced = False

    @property
    def current(self) -> bool:
        """Whether all that the stream holds was applied, and the consumer was heard of lately."""
        return self._caught_up.is_set() and time.monotonic() - self._heard < SILENT_S + TICK_S

    async def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._run(), name=f"read-{self.spec.subject}")

    async def ready(self, within_s: float) -> bool:
        """Whether all that the stream holds was applied; waits for it."""
        try:
            async with asyncio.timeout(within_s):
                await self._caught_up.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End it; its place is given back."""
        await tasks.end(self._task)

    async def _run(self) -> None:
        failures = 0
        while True:
            before = self._last
            wait_s = 0.0
            try:
                await self._follow()
            except _NotNowError as error:
                wait_s = error.wait_s
                self._say_once(str(error))
            except (_LostError, errors.Error, OSError, TimeoutError) as error:
                log.debug("events are read anew", subject=self.spec.subject, why=f"{type(error).__name__}: {error}")
            except Exception as bug:  # a reader that ended here would never be current again
                log.exception("reading events failed", bug, subject=self.spec.subject)
                wait_s = BACKOFF_S[-1]
            self._caught_up.clear()
            failures = 0 if self._last > before else failures + 1
            usual = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            await asyncio.sleep(max(wait_s, usual) * random.uniform(0.8, 1.2))  # noqa: S311 - a scatter

    def _say_once(self, why: str) -> None:
        """Once until it is read again: a platform without the stream is not told of it for ever."""
        if not self._silenced:
            log.warning("events cannot be read; trying again", subject=self.spec.subject, why=why)
        self._silenced = True

    async def _follow(self) -> None:
        inbox = self._nc.new_inbox()
        subscription = await self._nc.subscribe(inbox)
        place = ""
        try:
            place, pending = await self._made()
            self._heard = time.monotonic()
            if self._silenced:
                log.info("events are read again", subject=self.spec.subject)
                self._silenced = False
            delivered = 0
            resumes = self._last > 0
            if not pending and resumes:
                self._another_stream()
                return
            if not pending and self._all_read():
                return
            while True:
                delivered = await self._pull(subscription, place, inbox, delivered, resumes)
                resumes = resumes and not delivered
                if delivered < 0:
                    return
        finally:
            await self._leave(subscription, place)

    def _all_read(self) -> bool:
        """All of the stream was applied; True: but it was not enough, and must be read from its beginning."""
        if self._recent_s is not None and not self._enough():
            self._recent_s, self._last = None, 0
            return True
        self._recent_s = None
        self._caught_up.set()
        return False

    async def _pull(self, subscription: Subscription, place: str, inbox: str, delivered: int, resumes: bool) -> int:
        """Ask for a batch and apply it; how many the consumer has delivered since it was made, -1: read all anew.

        Args:
            resumes: The first must be the one that was applied last: else the stream is another one.

        Raises:
            _LostError: the consumer is gone.
        """
        asked = orjson.dumps({"batch": BATCH, "expires": _ns(EXPIRES_S), "idle_heartbeat": _ns(HEARTBEAT_S)})
        await self._nc.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self.spec.stream}.{place}", asked, reply=inbox)
        for _ in range(BATCH):
            message = await self._next(subscription)
            if message is None:
                break
            meta = message.metadata
            if meta.sequence.consumer != delivered + 1:
                raise _LostError(f"{delivered + 1} was expected, and {meta.sequence.consumer} came")
            delivered = meta.sequence.consumer
            if resumes and delivered == 1 and (meta.sequence.stream, meta.timestamp) != (self._last, self._stored):
                self._another_stream()
                return -1
            if meta.sequence.stream > self._last:
                self._last, self._stored = meta.sequence.stream, meta.timestamp
                self._take(self._last, message.data)
            if not meta.num_pending and not self._caught_up.is_set() and self._all_read():
                return -1
        return delivered

    async def _next(self, subscription: Subscription) -> Msg | None:
        """The next event; None: what was asked for has come to its end."""
        connection = self._nc.stats["reconnects"]
        while True:
            try:
                message = await subscription.next_msg(timeout=TICK_S)
            except errors.TimeoutError:
                if self._nc.stats["reconnects"] != connection:
                    raise _LostError("the connection was renewed") from None
                if time.monotonic() - self._heard > SILENT_S:
                    raise _LostError("nothing was heard of the consumer") from None
                continue
            status = (message.headers or {}).get("Status", "")
            if status in ("409", "503", "400"):
                raise _LostError(f"{status} {(message.headers or {}).get('Description', '')}")
            self._heard = time.monotonic()
            if not status:
                return message
            if status != "100":
                return None

    def _take(self, sequence: int, body: bytes) -> None:
        try:
            event = Event.model_validate_json(body)
        except ValidationError:
            self.unreadable += 1
            return
        self._apply(Seen(sequence, event))

    async def _made(self) -> tuple[str, int]:
        """A consumer under a free name, and how many events it will deliver of those there are.

        Raises:
            _NotNowError: the stream is missing, the grant is, or every name is taken.
        """
        places = self.spec.places
        first = secrets.randbelow(len(places))
        for place in (*places[first:], *places[:first]):
            answer = await self._ask_for(place)
            error = answer.get("error")
            if not error:
                return place, int(answer.get("num_pending") or 0)
            if error.get("err_code") == _NO_STREAM:
                raise _NotNowError(f"there is no stream {self.spec.stream}: run `opsbus provision`")
            if error.get("err_code") != _TAKEN:
                raise _NotNowError(str(error.get("description"))[:200])
        raise _NotNowError(f"{len(places)} instances of {self.spec.service} read it already", BACKOFF_S[-1])

    async def _ask_for(self, place: str) -> dict[str, Any]:
        subject = f"$JS.API.CONSUMER.CREATE.{self.spec.stream}.{place}.{self.spec.subject}"
        body = {"stream_name": self.spec.stream, "config": self._config(place), "action": "create"}
        try:
            message = await self._nc.request(subject, orjson.dumps(body), timeout=ANSWER_WITHIN_S)
        except (errors.TimeoutError, errors.NoRespondersError):
            if not self._nc.is_connected:
                raise
            why = "JetStream does not answer, or this identity may not read it: are the server's permissions of today?"
            raise _NotNowError(why, BACKOFF_DENIED_S) from None
        found = orjson.loads(message.data)
        return found if isinstance(found, dict) else {}

    def _config(self, place: str) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": place,
            # Whose it is: an equal configuration would be shared, and each get a part of the events.
            "description": secrets.token_hex(8),
            "filter_subject": self.spec.subject,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _ns(INACTIVE_S),
            "deliver_policy": "all",
        }
        if self._last:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last}
        elif self._recent_s is not None:
            since = datetime.now(UTC) - timedelta(seconds=self._recent_s)
            config |= {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat()}
        return config

    def _another_stream(self) -> None:
        """What was applied last is not there: the stream was made anew, or has let go of it. All is read again."""
        log.warning("a stream is not what was read of it; its events are read from the first", stream=self.spec.stream)
        self._last = 0
        if self._forget is not None:
            self._forget()

    async def _leave(self, subscription: Subscription, place: str) -> None:
        """The place is given back. Not answered: the server takes it by itself."""
        try:
            await subscription.unsubscribe()
            if place and self._nc.is_connected:
                await self._nc.publish(f"$JS.API.CONSUMER.DELETE.{self.spec.stream}.{place}", b"")
        except (errors.Error, OSError):
            return


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
