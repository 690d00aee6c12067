"""Results too large for a message: kept in the Object Store BLOBS for a day, read as a resource.

The objects are as ADR-20 has them, so that ``nats object get BLOBS <service>/<id>`` reads them too. They are written
here and not by nats-py, because a service may write chunks under its own name alone.
"""

import base64
import re
import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from nats import errors
from nats.js import JetStreamContext
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
PART_BYTES = 600_000
"""Read in one message at most: base64 makes it a third longer."""

_STREAM = f"OBJ_{BLOBS.name}"
_ID = re.compile(r"^[0-9a-f]{32}$")
_TIMEOUT_S = 5.0


class Blob(NamedTuple):
    """A stored blob."""

    data: bytes
    mime_type: str


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


async def fetch(js: JetStreamContext, service: str, blob_id: str) -> Blob:
    """A stored blob of a service.

    Raises:
        ToolError: ``not_found``, ``unavailable``; ``backend_error`` when what is stored is damaged.
    """
    if not _ID.match(blob_id):
        raise _not_found(blob_id)
    try:
        message = await js.get_last_msg(_STREAM, _meta_subject(service, blob_id))
        meta = orjson.loads(message.data or b"{}")
        data = await _read_chunks(js, _chunk_subject(service, blob_id), int(meta["chunks"]))
    except NotFoundError:
        raise _not_found(blob_id) from None
    except (errors.Error, TimeoutError) as error:
        raise ToolError(ErrorCode.UNAVAILABLE, f"the blob cannot be read ({type(error).__name__})") from error
    if meta.get("digest") != _digest(data):
        raise ToolError(ErrorCode.BACKEND_ERROR, "the stored blob is damaged", hint="Make the call that gave it again.")
    return Blob(data, meta.get("headers", {}).get("Content-Type", ["application/octet-stream"])[0])


async def _write(js: JetStreamContext, service: str, blob_id: str, data: bytes, mime_type: str) -> None:
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    for chunk in chunks:
        await js.publish(_chunk_subject(service, blob_id), chunk, timeout=_TIMEOUT_S)
    meta = {
        "name": f"{service}/{blob_id}",
        "headers": {"Content-Type": [mime_type]},
        "options": {"max_chunk_size": CHUNK_BYTES},
        "bucket": BLOBS.name,
        "nuid": f"{service}-{blob_id}",
        "size": len(data),
        "mtime": datetime.now(UTC).isoformat(),
        "chunks": len(chunks),
        "digest": _digest(data),
    }
    headers = {"Nats-Rollup": "sub"}
    await js.publish(_meta_subject(service, blob_id), orjson.dumps(meta), timeout=_TIMEOUT_S, headers=headers)


async def _read_chunks(js: JetStreamContext, subject: str, count: int) -> bytes:
    if count == 0:
        return b""
    subscription = await js.subscribe(subject, stream=_STREAM, ordered_consumer=True)
    try:
        return b"".join([(await subscription.next_msg(timeout=_TIMEOUT_S)).data for _ in range(count)])
    finally:
        await subscription.unsubscribe()


async def _whole(ctx: "Context[Any]", service: str, blob_id: str) -> ResourceContents:
    blob = await fetch(ctx.jetstream, service, blob_id)
    if len(blob.data) > PART_BYTES:
        parts = -(-len(blob.data) // PART_BYTES)
        raise ToolError(
            ErrorCode.RESULT_TOO_LARGE,
            f"the blob has {len(blob.data)} bytes, {PART_BYTES} fit a message",
            hint=f"Read its {parts} parts: {_uri(service, blob_id)}/parts/0 to {parts - 1}.",
            details={"bytes": len(blob.data), "parts": parts},
        )
    return _contents(_uri(service, blob_id), blob.data, blob.mime_type)


async def _part(ctx: "Context[Any]", service: str, blob_id: str, part: int) -> ResourceContents:
    blob = await fetch(ctx.jetstream, service, blob_id)
    piece = blob.data[part * PART_BYTES : (part + 1) * PART_BYTES] if part >= 0 else b""
    if not piece:
        raise ToolError(ErrorCode.NOT_FOUND, f"the blob has no part {part}", hint="Parts count from 0.")
    return ResourceContents.of(f"{_uri(service, blob_id)}/parts/{part}", piece, "application/octet-stream")


def _contents(uri: str, data: bytes, mime_type: str) -> ResourceContents:
    """Text as text, where it is text: a model can read it then."""
    if mime_type.startswith("text/") or mime_type.split(";")[0].endswith(("json", "yaml", "xml")):
        try:
            return ResourceContents.of(uri, data.decode(), mime_type)
        except UnicodeDecodeError:
            pass  # called text, but is none: it goes as bytes
    return ResourceContents.of(uri, data, mime_type)


def _uri(service: str, blob_id: str) -> str:
    return f"opsbus://{service}/blobs/{blob_id}"


def _chunk_subject(service: str, blob_id: str) -> str:
    return f"$O.{BLOBS.name}.C.{service}-{blob_id}"


def _meta_subject(service: str, blob_id: str) -> str:
    return f"$O.{BLOBS.name}.M.{base64.urlsafe_b64encode(f'{service}/{blob_id}'.encode()).decode()}"


def _digest(data: bytes) -> str:
    return f"SHA-256={base64.urlsafe_b64encode(sha256(data).digest()).decode()}"


def _not_found(blob_id: str) -> ToolError:
    return ToolError(
        ErrorCode.NOT_FOUND,
        f"there is no blob {blob_id[:64]!r}",
        hint="Blobs are kept for a day; make the call that gave it again.",
    )
