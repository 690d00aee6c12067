"""Results too large for a message: kept in the Object Store BLOBS for a day, read as a resource.

Chunks and entry lie under subjects that carry the service's name in the clear, so that the server lets a service write
and read its own alone. That is why they are not as ADR-20 has objects: there an entry's subject is the name in base64,
which no permission can tell apart.
"""

import asyncio
import base64
import re
import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from nats import errors
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from opsbus.content import ResourceContents, ResourceLink
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode
from opsbus_contracts.streams import BLOBS

if TYPE_CHECKING:
    from opsbus.context import Context
    from opsbus.runtime import Runtime
    from opsbus.worker import Worker

CHUNK_BYTES = 128 * 1024
BLOB_BYTES_MAX = 64 * 1024 * 1024
PART_BYTES = 4 * CHUNK_BYTES
"""Read in one message at most: base64 makes it a third longer."""

_STREAM = f"OBJ_{BLOBS.name}"
_ID = re.compile(r"^[0-9a-f]{32}$")
_TIMEOUT_S = 5.0
_LAG_S = 0.2


def serve_blobs(worker: "Worker", permission: str) -> None:
    """Adds the templates that blobs are read by."""

    async def blob(ctx: "Context[Any]", id: str) -> ResourceContents:
        return await _whole(ctx, worker.name, id)

    async def blob_part(ctx: "Context[Any]", id: str, part: int) -> ResourceContents:
        return await _part(ctx, worker.name, id, part)

    blob.__doc__ = f"A result that was too large for a message, up to {PART_BYTES} bytes; kept for a day."
    blob_part.__doc__ = f"Part 0, 1, ... of a larger one, {PART_BYTES} bytes each."
    blob.__annotations__["ctx"] = blob_part.__annotations__["ctx"] = Any
    worker.resource(_uri(worker.name, "{id}"), permission=permission)(blob)
    worker.resource(_uri(worker.name, "{id}") + "/parts/{part}", permission=permission)(blob_part)


async def store(runtime: "Runtime", data: bytes, mime_type: str, name: str) -> ResourceLink:
    """Keeps data; gives the link for a result.

    Raises:
        ToolError: ``result_too_large`` over the bound, ``unavailable`` when it cannot be stored.
    """
    if len(data) > BLOB_BYTES_MAX:
        raise ToolError(
            ErrorCode.RESULT_TOO_LARGE,
            f"the blob has {len(data)} bytes, {BLOB_BYTES_MAX} are allowed",
            hint="Narrow the call.",
        )
    blob_id = secrets.token_hex(16)
    service = runtime.worker.name
    try:
        await _write(runtime.js, service, blob_id, data, mime_type)
    except (errors.Error, TimeoutError) as error:
        raise ToolError(
            ErrorCode.UNAVAILABLE, f"the blob could not be stored ({type(error).__name__})", retryable=True
        ) from error
    parts = -(-len(data) // PART_BYTES)
    return ResourceLink(
        uri=_uri(service, blob_id),
        name=name,
        mime_type=mime_type,
        size=len(data),
        description="Kept for a day."
        if parts <= 1
        else f"Kept for a day. Read it in {parts} parts: <uri>/parts/0, 1, ...",
        meta={"opsbus/parts": parts} if parts > 1 else None,
    )


class Stored(NamedTuple):
    """What the object store knows of a blob."""

    size: int
    mime_type: str
    chunks: int


async def look_up(js: JetStreamContext, service: str, blob_id: str) -> Stored:
    """The entry of a blob.

    Raises:
        ToolError: ``not_found``, ``unavailable``; ``backend_error`` when the entry is damaged.
    """
    if not _ID.fullmatch(blob_id):
        raise _not_found(blob_id)
    message = await _last(js, _meta_subject(service, blob_id), blob_id)
    try:
        meta = orjson.loads(message.data or b"{}")
        return Stored(int(meta["size"]), meta["headers"]["Content-Type"][0], int(meta["chunks"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _damaged() from error


async def fetch(js: JetStreamContext, service: str, blob_id: str, chunks: range) -> bytes:
    """The bytes of these chunks.

    Raises:
        ToolError: ``not_found``, ``unavailable``.
    """
    parts = [await _last(js, _chunk_subject(service, blob_id, number), blob_id) for number in chunks]
    return b"".join(part.data or b"" for part in parts)


async def _last(js: JetStreamContext, subject: str, blob_id: str) -> RawStreamMsg:
    """What is stored under a subject. A replica that answers may not have it yet: it is asked twice."""
    try:
        try:
            return await js.get_last_msg(_STREAM, subject, direct=True)
        except NotFoundError:
            await asyncio.sleep(_LAG_S)
            return await js.get_last_msg(_STREAM, subject, direct=True)
    except NotFoundError:
        raise _not_found(blob_id) from None
    except (errors.Error, TimeoutError) as error:
        raise _unreadable(error) from error


async def _write(js: JetStreamContext, service: str, blob_id: str, data: bytes, mime_type: str) -> None:
    chunks = range(-(-len(data) // CHUNK_BYTES))
    for number in chunks:
        chunk = data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
        await js.publish(_chunk_subject(service, blob_id, number), chunk, timeout=_TIMEOUT_S)
    meta = {
        "name": f"{service}/{blob_id}",
        "headers": {"Content-Type": [mime_type]},
        "options": {"max_chunk_size": CHUNK_BYTES},
        "bucket": BLOBS.name,
        "size": len(data),
        "mtime": datetime.now(UTC).isoformat(),
        "chunks": len(chunks),
        "digest": f"SHA-256={base64.urlsafe_b64encode(sha256(data).digest()).decode()}",
    }
    await js.publish(_meta_subject(service, blob_id), orjson.dumps(meta), timeout=_TIMEOUT_S)


async def _whole(ctx: "Context[Any]", service: str, blob_id: str) -> ResourceContents:
    stored = await look_up(ctx.jetstream, service, blob_id)
    if stored.size > PART_BYTES:
        parts = -(-stored.size // PART_BYTES)
        raise ToolError(
            ErrorCode.RESULT_TOO_LARGE,
            f"the blob has {stored.size} bytes, {PART_BYTES} fit a message",
            hint=f"Read its {parts} parts: {_uri(service, blob_id)}/parts/0 to {parts - 1}.",
            details={"bytes": stored.size, "parts": parts},
        )
    data = await fetch(ctx.jetstream, service, blob_id, range(stored.chunks))
    return _contents(_uri(service, blob_id), data, stored.mime_type)


async def _part(ctx: "Context[Any]", service: str, blob_id: str, part: int) -> ResourceContents:
    stored = await look_up(ctx.jetstream, service, blob_id)
    chunks = PART_BYTES // CHUNK_BYTES
    wanted = range(stored.chunks)[part * chunks : (part + 1) * chunks] if part >= 0 else range(0)
    if not wanted:
        raise ToolError(ErrorCode.NOT_FOUND, f"the blob has no part {part}", hint="Parts count from 0.")
    piece = await fetch(ctx.jetstream, service, blob_id, wanted)
    return ResourceContents.of(f"{_uri(service, blob_id)}/parts/{part}", piece, "application/octet-stream")


def _contents(uri: str, data: bytes, mime_type: str) -> ResourceContents:
    """Text as text, where it is text and fits a message so: a model can read it then."""
    if mime_type.startswith("text/") or mime_type.split(";")[0].endswith(("json", "yaml", "xml")):
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return ResourceContents.of(uri, data, mime_type)
        if len(orjson.dumps(text)) < PART_BYTES * 4 // 3:
            return ResourceContents.of(uri, text, mime_type)
    return ResourceContents.of(uri, data, mime_type)


def _uri(service: str, blob_id: str) -> str:
    return f"opsbus://{service}/blobs/{blob_id}"


def _chunk_subject(service: str, blob_id: str, number: int) -> str:
    return f"$O.{BLOBS.name}.C.{service}.{blob_id}.{number}"


def _meta_subject(service: str, blob_id: str) -> str:
    return f"$O.{BLOBS.name}.M.{service}.{blob_id}"


def _unreadable(error: Exception) -> ToolError:
    return ToolError(ErrorCode.UNAVAILABLE, f"the blob cannot be read ({type(error).__name__})")


def _damaged() -> ToolError:
    return ToolError(ErrorCode.BACKEND_ERROR, "the stored blob is damaged", hint="Make the call that gave it again.")


def _not_found(blob_id: str) -> ToolError:
    return ToolError(
        ErrorCode.NOT_FOUND,
        f"there is no blob {blob_id[:64]!r}",
        hint="Blobs are kept for a day; make the call that gave it again.",
    )
