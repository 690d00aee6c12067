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
from opsbus_audit.proof.stored import last_checkpoint, lives, write_proof

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
        ProofError: the range is of no one life of the stream that the tree has, or its leaves are damaged.
    """
    stream = await life_of(client)
    known = await lives(engine)
    if stream not in known:
        if len(known) != 1:
            raise ProofError("the tree has leaves of several lives of the stream, and none of the present one")
        stream = known[0]
    ends = time.monotonic() + _SIGNED_WITHIN_S
    while time.monotonic() < ends:
        if await _signed(engine, stream, last):
            break
        await asyncio.sleep(_LOOK_S)
    await write_proof(engine, folder, stream, first, last)
    return {"stream": stream, "complete": complete}


async def _signed(engine: AsyncEngine, stream: str, last: int) -> bool:
    async with engine.connect() as connection:
        leaf = await tree.find(connection, stream, last)
    entry = await last_checkpoint(engine)
    if entry is None:
        # Nobody signs: not worth waiting for.
        return leaf is not None
    return leaf is not None and leaf.position < Checkpoint.of(entry.note).size
