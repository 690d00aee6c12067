"""A stream out of a server and into one, byte for byte: sequences, times and consumers are kept (JetStream's snapshot
API). Which streams, and where the bytes are kept, is the caller's matter."""

import json
from collections.abc import AsyncIterator
from typing import Any

from nats import errors
from nats.aio.client import Client

CHUNK_BYTES = 128 * 1024
_ANSWER_TIMEOUT_S = 10.0
_CHUNK_TIMEOUT_S = 30.0


class SnapshotError(Exception):
    """The server does not give or take a stream; in one line why."""


async def snapshot(client: Client, stream: str) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
    """``({config, state}, chunks)`` of a stream. The chunks must be read to their end.

    Raises:
        SnapshotError: there is no such stream, it cannot be read, or the server stops in the middle.
    """
    inbox = client.new_inbox()
    # Unbounded: the server sends no more than its window, and waits for what is acknowledged here.
    subscription = await client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
    request = {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "jsck": True}
    try:
        about = await _asked(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps(request).encode())
    except BaseException:
        await subscription.unsubscribe()
        raise

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                message = await subscription.next_msg(timeout=_CHUNK_TIMEOUT_S)
                if not message.data:
                    headers = message.headers or {}
                    status = headers.get("Status", "")
                    if status not in ("", "204"):
                        said = f"{status} {headers.get('Description', '')}".strip()
                        raise SnapshotError(f"stream {stream}: the server broke off: {said}")
                    return
                yield message.data
                if message.reply:
                    await client.publish(message.reply)
        except (errors.Error, TimeoutError) as error:
            raise SnapshotError(f"stream {stream}: no more came: {error or type(error).__name__}") from error
        finally:
            await subscription.unsubscribe()

    return {"config": about["config"], "state": about["state"]}, chunks()


async def restore(client: Client, about: dict[str, Any], chunks: AsyncIterator[bytes]) -> dict[str, Any]:
    """Make a stream of a snapshot. There must be none of that name.

    Args:
        about: ``{config, state}`` as ``snapshot`` gave it.
        chunks: Its bytes, in order.

    Returns:
        The state of the stream that was made.

    Raises:
        SnapshotError: the server does not take it.
    """
    name = about["config"]["name"]
    begun = await _asked(client, f"$JS.API.STREAM.RESTORE.{name}", json.dumps(about).encode())
    target = begun["deliver_subject"]
    try:
        async for chunk in chunks:
            answer = await client.request(target, chunk, timeout=_CHUNK_TIMEOUT_S)
            _check(name, answer.data)
        last = await client.request(target, b"", timeout=_CHUNK_TIMEOUT_S)
    except (errors.Error, TimeoutError) as error:
        raise SnapshotError(f"stream {name}: the server stopped taking it: {error or type(error).__name__}") from error
    made = _check(name, last.data)
    if "state" not in made:
        raise SnapshotError(f"stream {name}: the server did not say that it made it")
    state: dict[str, Any] = made["state"]
    return state


async def _asked(client: Client, subject: str, body: bytes) -> dict[str, Any]:
    name = subject.rsplit(".", 1)[-1]
    try:
        answer = await client.request(subject, body, timeout=_ANSWER_TIMEOUT_S)
    except (errors.Error, TimeoutError) as error:
        raise SnapshotError(f"stream {name}: the server does not answer: {error or type(error).__name__}") from error
    return _check(name, answer.data)


def _check(name: str, data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    found: dict[str, Any] = json.loads(data)
    if error := found.get("error"):
        raise SnapshotError(f"stream {name}: {error.get('description', error)}")
    return found
