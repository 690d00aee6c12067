"""nats-py's client with a short way in and a short way out, for the two things that every call does.

In: a subscription's messages go to a function in the task that reads them, where nats-py has a queue and a second task
for each subscription. Out: a message is formed and queued by a plain function, where nats-py has four coroutines and a
future. Everything else, and everything unusual, goes nats-py's own way. What either costs: docs/adr/0027.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from nats.aio import client as nats_client
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

Take = Callable[[Msg], None]
"""Gets a message. Must not take long: nothing else is read meanwhile."""

_LINE = b"NATS/1.0\r\n"
_PENDING_MAX = 1024 * 1024
"""Bytes that wait to be written; with more of them nats-py's own way is taken, which waits. Bytes."""

_PROPER = nats_client._HEADER_KEY_RE
_names: dict[str, str] = {}
"""Names of headers that were found proper, each with its colon. There are a few dozen."""


class QuickClient(Client):
    """nats-py's client, with ``take_directly`` and ``send``."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, tuple[Subscription, Take]] = {}
        self._nobody_waits: asyncio.Future[None] | None = None

    async def subscribe_directly(self, subject: str, take: Take) -> Subscription:
        """A subscription whose messages go to a function. Raises as ``subscribe`` does."""

        async def early(msg: Msg) -> None:
            take(msg)

        subscription = await self.subscribe(subject, cb=early)
        self.take_directly(subscription, take)
        return subscription

    def take_directly(self, subscription: Subscription, take: Take) -> None:
        """From now on a subscription's messages go to a function; those that came before went to its callback.

        Its limits on what is pending do not hold any more, for nothing is.
        """
        self._takers[subscription._id] = (subscription, take)

    async def send(self, subject: str, payload: bytes, reply: str, headers: dict[str, str]) -> None:
        """Publish, the short way where it can be taken. Raises as ``publish`` does."""
        if not self.publish_now(subject, payload, reply, headers):
            await self.publish(subject, payload, reply=reply, headers=headers)

    def publish_now(self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str]) -> bool:
        """Queue a message to be written with the next ones. The subjects must be proper.

        Returns:
            False: nothing was done, and ``publish`` has to be used, which waits or says what is wrong.
        """
        queue, flusher = self._flush_queue, self._flusher_task
        if (
            not self.is_connected
            or self.is_draining_pubs
            or queue is None
            or flusher is None
            or flusher.done()
            or self._pending_data_size > _PENDING_MAX
            or len(payload) > self._max_payload
        ):
            return False
        block = header_block(headers)
        if block is None:
            return False
        size = len(block) + len(payload)
        command = b"".join((f"HPUB {subject} {reply} {len(block)} {size}\r\n".encode(), block, payload, b"\r\n"))
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        if queue.empty():
            if self._nobody_waits is None:
                self._nobody_waits = asyncio.get_running_loop().create_future()
                self._nobody_waits.set_result(None)
            queue.put_nowait(self._nobody_waits)
        return True

    def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> Coroutine[Any, Any, None]:
        found = self._takers.get(sid)
        if found is None:  # no coroutine around nats-py's own: readers of the record take 100,000 messages a second
            return super()._process_msg(sid, subject, reply, data, headers)
        msg = Msg(self, subject.decode(), reply.decode(), data, None, None, False, sid)
        return self._hand_over(*found, msg, headers)

    async def _hand_over(self, subscription: Subscription, take: Take, msg: Msg, headers: bytes) -> None:
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(msg.data)
        subscription._received += 1
        if headers:
            found = headers_of(headers)
            msg.headers = found if found is not None else await self._process_headers(headers)
        try:
            take(msg)
        except Exception as error:  # noqa: BLE001 - told as nats-py tells what a callback raises; reading must go on
            await self._error_cb(error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._takers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)


def header_block(headers: Mapping[str, str]) -> bytes | None:
    """Headers as they are written to the server; None: one of them is not proper as it is."""
    lines = ["NATS/1.0\r\n"]
    for name, value in headers.items():
        colon = _names.get(name)
        if colon is None:
            if not _PROPER.fullmatch(name) or len(_names) > 1_000:
                return None
            colon = _names[name] = f"{name}: "
        lines.append(f"{colon}{value}\r\n")
    lines.append("\r\n")
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines):
        return None  # a value with a line's end in it
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


def headers_of(block: bytes) -> dict[str, str] | None:
    """The headers of a message; None for what is not plain ASCII under a plain first line, such as a status."""
    if not block.startswith(_LINE) or not block.isascii():
        return None
    found = {}
    for line in block[10:-4].decode("ascii").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found
