"""Results too large for a message: stored, linked, read back whole or in parts."""

import base64
import os

import pytest

from opsbus import Context, ErrorCode, ToolResult, Worker
from opsbus.blobs import BLOB_BYTES_MAX, PART_BYTES
from opsbus_contracts import Status

worker = Worker("test", version="1.0.0", blobs="test:read")
other = Worker("demo", version="1.0.0", blobs=True)


@worker.tool(permission="test:read", read_only=True)
async def export(ctx: Context[None], size: int, mime_type: str = "application/octet-stream") -> ToolResult:
    """Returns a link."""
    data = b"x" * size if mime_type.startswith("text") else os.urandom(size)
    return ToolResult(content=[await ctx.blob(data, mime_type, name="export")])


@pytest.mark.parametrize("size", [0, 1, 130_000, PART_BYTES])
async def test_stored_linked_read(run_worker, caller, size):
    async with run_worker(worker):
        (link,) = (await caller.call("test", "export", {"size": size})).result["content"]
        assert (link["type"], link["name"], link["size"]) == ("resource_link", "export", size)
        assert link["uri"].startswith("opsbus://test/blobs/")
    async with run_worker(worker):  # another instance
        (contents,) = (await caller.read("test", link["uri"])).result["contents"]
        assert len(base64.b64decode(contents["blob"])) == size
        assert contents["mimeType"] == "application/octet-stream"


async def test_text_is_read_as_text(run_worker, caller):
    async with run_worker(worker):
        (link,) = (await caller.call("test", "export", {"size": 3, "mime_type": "text/plain"})).result["content"]
        (contents,) = (await caller.read("test", link["uri"])).result["contents"]
    assert contents == {"uri": link["uri"], "mimeType": "text/plain", "text": "xxx"}


async def test_a_large_one_is_read_in_parts(run_worker, caller):
    size = PART_BYTES * 2 + 5
    async with run_worker(worker):
        (link,) = (await caller.call("test", "export", {"size": size})).result["content"]
        assert link["_meta"] == {"opsbus/parts": 3}
        whole = (await caller.read("test", link["uri"])).error
        assert whole.code is ErrorCode.RESULT_TOO_LARGE
        assert whole.details == {"bytes": size, "parts": 3}
        parts = [await caller.read("test", f"{link['uri']}/parts/{n}") for n in range(4)]
    sizes = [len(base64.b64decode(part.result["contents"][0]["blob"])) for part in parts[:3]]
    assert sizes == [PART_BYTES, PART_BYTES, 5]
    assert parts[3].error.code is ErrorCode.NOT_FOUND


async def test_it_lies_under_its_services_name(run_worker, caller, bus):
    async with run_worker(worker):
        (link,) = (await caller.call("test", "export", {"size": 200_000})).result["content"]
    blob_id = link["uri"].rsplit("/", 1)[1]
    state = await (await bus.jetstream()).stream_info("OBJ_BLOBS", subjects_filter=">")
    assert set(state.state.subjects) == {
        f"$O.BLOBS.M.test.{blob_id}",
        f"$O.BLOBS.C.test.{blob_id}.0",
        f"$O.BLOBS.C.test.{blob_id}.1",
    }


@pytest.mark.parametrize("blob_id", ["0" * 32, "x", "..%2F..", "A" * 32])
async def test_what_is_not_there(run_worker, caller, blob_id):
    async with run_worker(worker):
        assert (await caller.read("test", f"opsbus://test/blobs/{blob_id}")).error.code is ErrorCode.NOT_FOUND


async def test_a_blob_is_its_services_and_its_permissions(run_worker, caller):
    async with run_worker(worker), run_worker(other):
        (link,) = (await caller.call("test", "export", {"size": 3})).result["content"]
        blob_id = link["uri"].rsplit("/", 1)[1]
        assert (await caller.read("demo", f"opsbus://demo/blobs/{blob_id}")).error.code is ErrorCode.NOT_FOUND
        refused = await caller.read("test", link["uri"], permissions=["demo:read"])
        assert refused.error.code is ErrorCode.FORBIDDEN


async def test_too_large_and_no_store(run_worker, caller, bus):
    async with run_worker(worker):
        over = await caller.call("test", "export", {"size": BLOB_BYTES_MAX + 1, "mime_type": "text/plain"})
        assert over.error.code is ErrorCode.RESULT_TOO_LARGE
        await (await bus.jetstream()).delete_stream("OBJ_BLOBS")
        gone = await caller.call("test", "export", {"size": 3})
        assert gone.error.code is ErrorCode.UNAVAILABLE
        assert gone.status is Status.ERROR


def test_it_is_announced():
    assert [t.spec.uri_template for t in other.registry.templates.values()] == [
        "opsbus://demo/blobs/{id}",
        "opsbus://demo/blobs/{id}/parts/{part}",
    ]
    assert {t.spec.permission for t in other.registry.templates.values()} == {"demo:read"}
