"""What holds for every CMDB that is asked over HTTP: a CMDB that speaks our API (http_inventory.py), and NetBox."""

import aiohttp

from opsbus import ErrorCode, ToolError
from opsbus.guard import BackendShutError
from opsbus_contracts import Executed

_CHUNK_BYTES = 65_536


def is_outage(error: Exception) -> bool:
    """Whether a failure counts towards shutting the backend out."""
    return isinstance(error, ToolError) and error.code in (ErrorCode.BACKEND_UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN)


def is_passing(error: Exception, *, patient: bool = False) -> bool:
    """Whether a read is tried again. After a time-out a call has no time for another try; who is patient has."""
    return (
        isinstance(error, ToolError)
        and error.code is ErrorCode.BACKEND_UNAVAILABLE
        and (patient or not error.details.get("timed_out"))
    )


def shut_out(shut: BackendShutError) -> ToolError:
    """The error of a call whose backend is not asked at this moment."""
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"several requests in a row failed; the last: {shut.last}",
        hint=f"it is asked again in {shut.retry_in_s:.0f} s; check that it is up",
        executed=Executed.NO,
        retry_after_ms=int(shut.retry_in_s * 1000),
    )


async def body_within(response: aiohttp.ClientResponse, bytes_max: int) -> bytes | None:
    """The whole body; None when it is larger. Raises aiohttp.ClientError."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > bytes_max:
            return None
    return bytes(body)
