"""The tool `audit_verify`: page after page, and what is wrong is named."""

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import update

from opsbus.identity import Signer
from opsbus_audit import tables
from opsbus_audit.app import build
from opsbus_audit.proof.checkpoint import Checkpoint, read_entries
from opsbus_audit.store import AuditStore

WAIT_S = 60


def signed(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return max([Checkpoint.of(entry.note).size for entry in read_entries(file)], default=0)


async def test_pages_and_findings(run_worker: Any, edge: Any, caller: Any, tmp_path: Path) -> None:
    key = tmp_path / "signing.pem"
    await asyncio.to_thread(key.write_bytes, Signer.generate().pem())
    url, file = f"sqlite:///{tmp_path}/audit.sqlite3", tmp_path / "checkpoints.txt"
    await edge.many(250)
    async with run_worker(
        build(), database_url=url, checkpoint_key_file=key, checkpoint_file=file, checkpoint_every_s=0.3
    ):
        async with asyncio.timeout(WAIT_S):
            while await asyncio.to_thread(signed, file) < 250:
                await asyncio.sleep(0.05)
        seen, cursor = 0, None
        while True:
            arguments = {"limit": 100} | ({"cursor": cursor} if cursor else {})
            page = (await caller.call("audit", "verify", arguments)).structured
            assert page["ok"], page
            assert page["tree_size"] == 250
            seen += page["events"]
            cursor = page["page"].get("next_cursor")
            if cursor is None:
                break
        assert seen == 250
        store = AuditStore(url)
        async with store.engine.begin() as connection:
            statement = update(tables.event).where(tables.event.c.sequence == 130).values(payload=b"{}")
            await connection.execute(statement)
        assert (await caller.call("audit", "verify", {"limit": 100})).structured["ok"]
        page = (await caller.call("audit", "verify", {"first": 101, "limit": 100})).structured
        assert (page["ok"], page["events"]) == (False, 29)
        assert [(item["kind"], item["sequence"]) for item in page["items"]] == [("altered", 130)]
        leaves = tables.leaves.c
        async with store.engine.begin() as connection:
            await connection.execute(update(tables.leaves).where(leaves.position == 0).values(first=leaves.first + 1))
        damaged = (await caller.call("audit", "verify", {"first": 1, "limit": 5})).error
        assert "damaged" in damaged.message
        assert (await caller.call("audit", "verify", {"cursor": "x"})).error.code == "invalid_arguments"
        await store.close()
