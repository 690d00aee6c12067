"""The proof that an export takes along, made of the store."""

import asyncio
import time
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_audit.proof import bundle, tree
from opsbus_audit.proof.checkpoint import Checkpoint
from opsbus_audit.proof.live import life_of
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.stored import chain, last_checkpoint, write_proof

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


async def _signed(engine: AsyncEngine, streams: list[str], last: int) -> bool:
    async with engine.connect() as connection:
        leaf = await tree.find(connection, streams[-1], last)
    entry = await last_checkpoint(engine)
    if entry is None:
        # Nobody signs: not worth waiting for.
        return leaf is not None
    return leaf is not None and leaf.position < Checkpoint.of(entry.note).size
