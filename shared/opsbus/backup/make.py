"""Making a backup while the platform runs: every stream, bucket and object store, then every store."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from nats.aio.client import Client

from opsbus.backup.folder import Backup, BackupError, StorePart, StreamPart, digest, write_manifest
from opsbus.backup.snapshot import SnapshotError, snapshot
from opsbus.backup.stores import Store
from opsbus.backup.tables import dump
from opsbus.database import open_engine
from opsbus_contracts.streams import BUCKETS, CATALOG, OBJECT_STORES, STREAMS

Told = Callable[[str, int], None]
"""Told ``(part, bytes or rows since the last time)``."""

READ_TIMEOUT_S = 600.0

NAMES = (
    *(spec.name for spec in STREAMS),
    # Who is alive is said anew every few seconds.
    *(f"KV_{spec.name}" for spec in BUCKETS if spec.name != CATALOG.name),
    *(f"OBJ_{spec.name}" for spec in OBJECT_STORES),
)
"""The streams of a backup, in order."""


def begin(folder: Path) -> None:
    """Make the folder.

    Raises:
        BackupError: there is something in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BackupError(f"{folder} is not empty", "name a new folder: a backup is never written over another")
        for name in ("streams", "stores"):
            (folder / name).mkdir(mode=0o700)
    except OSError as error:
        raise BackupError(f"{folder} cannot be made: {error.strerror}") from None


async def make_backup(client: Client, stores: dict[str, tuple[Store, str]], folder: Path, told: Told) -> Backup:
    """Write a backup. Streams first: a store that is a little later than its stream is caught up, never behind it.

    Args:
        client: Of the identity ``provisioner``.
        stores: Store and address by name.
        folder: As ``begin`` made it.
        told: For a progress bar.

    Raises:
        BackupError: a part cannot be written; the folder is no backup then.
        sqlalchemy.exc.SQLAlchemyError, OSError: a store cannot be read.
    """
    backup = Backup(made_at=datetime.now(UTC), opsbus=version("opsbus"))
    for name in NAMES:
        try:
            backup.streams.append(await _stream(client, name, folder, told))
        except SnapshotError as error:
            raise BackupError(str(error), "is the platform provisioned? 'opsbus provision' says") from None
    for name, (store, url) in stores.items():
        backup.stores.append(await _store(store, url, name, folder, told))
    write_manifest(folder, backup)
    return backup


async def _stream(client: Client, name: str, folder: Path, told: Told) -> StreamPart:
    file = folder / "streams" / f"{name}.snapshot"
    about, chunks = await snapshot(client, name)
    with file.open("wb") as out:
        async for chunk in chunks:
            # Each chunk with its length: the server wants them back as it gave them.
            out.write(len(chunk).to_bytes(4, "big") + chunk)
            told(name, len(chunk))
    file.chmod(0o600)
    state = about["state"]
    return StreamPart(
        name=name,
        file=f"streams/{file.name}",
        sha256=digest(file),
        bytes=file.stat().st_size,
        messages=state.get("messages", 0),
        last_sequence=state.get("last_seq", 0),
        about=about,
    )


async def _store(store: Store, url: str, name: str, folder: Path, told: Told) -> StorePart:
    file = folder / "stores" / f"{name}.ndjson.gz"
    engine = open_engine(url, READ_TIMEOUT_S, read_only=True)
    try:
        rows = await dump(engine, store.metadata, file, lambda: told(name, 1))
    finally:
        await engine.dispose()
    file.chmod(0o600)
    return StorePart(name=name, file=f"stores/{file.name}", sha256=digest(file), bytes=file.stat().st_size, rows=rows)
