"""The proof that an export takes along, made of the store."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit import tables
from opsbus_audit.proof import bundle, merkle, tree
from opsbus_audit.proof.bundle import Proof
from opsbus_audit.proof.checkpoint import Checkpoint, frame
from opsbus_audit.proof.live import life_of
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.stored import chain, checkpoints, last_checkpoint
from opsbus_audit.retention.let_go import ranges

PARTS = (bundle.LEAVES, bundle.CHECKPOINTS, bundle.PROOF)
_SIGNED_WITHIN_S = 15.0
_LOOK_S = 0.25


async def write_part(
    engine: AsyncEngine, client: Client, folder: Path, first: int, last: int, *, complete: bool
) -> dict[str, Any]:
    """Write the proof of the sequences ``first`` to ``last``; waits a little for the checkpoint over the last of them.

    Returns:
        What the manifest says of it.

    Raises:
        ProofError: the tree is empty, or its leaves are damaged.
    """
    streams = await chain(engine, await life_of(client))
    if not streams:
        raise ProofError("the tree is empty")
    ends = time.monotonic() + _SIGNED_WITHIN_S
    while time.monotonic() < ends:
        if await _signed(engine, streams, last):
            break
        await asyncio.sleep(_LOOK_S)
    await write_proof(engine, folder, streams, first, last)
    return {"streams": streams, "complete": complete}


async def write_proof(engine: AsyncEngine, folder: Path, streams: Sequence[str], first: int, last: int) -> Proof:
    """Write ``leaves.bin``, ``checkpoints.txt`` and ``proof.json`` for the sequences ``first`` to ``last``.

    Args:
        engine: The store.
        folder: Of the export; ``events.ndjson`` may be there already or come later, ``bundle.seal`` comes last.
        streams: The lives of the stream that the range is of.

    Raises:
        ProofError: the store's tree is damaged.
    """
    column = tables.leaves.c
    inside = (column.stream.in_(streams), column.first <= last, column.last >= first)
    async with engine.connect() as connection:
        whole = select(func.min(column.position), func.max(column.position + column.last - column.first + 1))
        begin, end = (await connection.execute(whole.where(*inside))).one()
        begin, end = begin or 0, end or 0
        runs: list[tuple[int, str, int, int]] = []
        (folder / bundle.LEAVES).write_bytes(b"")
        async for run in tree.runs(connection, begin, end):
            bundle.write_leaves(folder, [run])
            before = runs[-1] if runs else None
            if before and (before[1], before[2] + before[3]) == (run.stream, run.first):
                runs[-1] = (*before[:3], before[3] + run.leaves)
            else:
                runs.append((run.position, run.stream, run.first, run.leaves))
        size, origin = await _write_checkpoints(engine, folder, begin, end)
        parts = merkle.perfect_parts(end, size) if size > end else []
        right = [
            (level, (await tree.subtree(connection, index << level, (index + 1) << level)).hex())
            for level, index in parts
        ]
        left = (await tree.frontier_at(connection, begin)).roots
        spans = [span for stream in streams for span in await ranges(connection, stream)]
    proof = Proof(
        origin=origin,
        position=begin,
        size=size,
        left=[root.hex() for root in left],
        right=right,
        runs=runs,
        let_go=[span for span in spans if span[0] <= last and span[1] >= first],
    )
    (folder / bundle.PROOF).write_text(proof.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return proof


async def _write_checkpoints(engine: AsyncEngine, folder: Path, begin: int, end: int) -> tuple[int, str]:
    last = await last_checkpoint(engine)
    size, origin = 0, ""
    with (folder / bundle.CHECKPOINTS).open("wb") as file:
        async for entry in checkpoints(engine, begin):
            one = Checkpoint.of(entry.note)
            if one.size > end:
                break
            file.write(frame(entry))
            size, origin = one.size, one.origin
        if last is not None:
            one = Checkpoint.of(last.note)
            if one.size > max(size, begin):
                file.write(frame(last))
                size, origin = one.size, one.origin
    return size, origin


async def _signed(engine: AsyncEngine, streams: list[str], last: int) -> bool:
    async with engine.connect() as connection:
        leaf = await tree.find(connection, streams[-1], last)
    entry = await last_checkpoint(engine)
    if entry is None:
        # Nobody signs: not worth waiting for.
        return leaf is not None
    return leaf is not None and leaf.position < Checkpoint.of(entry.note).size
