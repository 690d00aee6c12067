"""Restoring a backup into an empty platform. Nothing that holds something is overwritten."""

from collections.abc import AsyncIterator
from pathlib import Path

from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from opsbus.backup.folder import Backup, BackupError, StorePart, StreamPart
from opsbus.backup.make import READ_TIMEOUT_S, Told
from opsbus.backup.snapshot import SnapshotError, restore
from opsbus.backup.stores import Store
from opsbus.backup.tables import DumpError, restore_rows
from opsbus.database import open_engine


async def restore_backup(
    client: Client, backup: Backup, stores: dict[str, tuple[Store, str]], folder: Path, told: Told
) -> None:
    """Make the streams and fill the stores. What is there already, with something in it, ends it before it begins.

    Raises:
        BackupError: the platform is not empty, or does not take a part.
        sqlalchemy.exc.SQLAlchemyError, OSError: a store cannot be written.
    """
    await _check_empty(client, backup)
    missing = [part.name for part in backup.stores if part.name not in stores]
    if missing:
        raise BackupError(
            f"the backup has a store of {missing[0]!r}, and no place for it is known",
            f"set OPSBUS_{missing[0].upper()}_DATABASE_URL, or leave the stores out with --no-stores",
        )
    # Stores first: each is all or none, and a platform whose streams are there counts as restored.
    for store_part in backup.stores:
        await _store(stores[store_part.name], store_part, folder, told)
    for part in backup.streams:
        await _stream(client, part, folder, told)


async def _check_empty(client: Client, backup: Backup) -> None:
    js = client.jetstream()
    for part in backup.streams:
        try:
            info = await js.stream_info(part.name)
        except NotFoundError:
            continue
        if info.state.messages:
            raise BackupError(
                f"{part.name} holds {info.state.messages} messages: this platform is not empty",
                "restore into a new data folder, or a new NATS cluster before 'opsbus provision'",
            )


async def _stream(client: Client, part: StreamPart, folder: Path, told: Told) -> None:
    js = client.jetstream()
    try:
        await js.delete_stream(part.name)
    except NotFoundError:
        pass
    except APIError as error:
        raise BackupError(f"{part.name}: the empty one cannot be replaced: {error.description}") from None
    try:
        state = await restore(client, part.about, _chunks(folder / part.file, part.name, told))
    except SnapshotError as error:
        raise BackupError(str(error), "is there room, and is JetStream's version not older?") from None
    if (state["messages"], state["last_seq"]) != (part.messages, part.last_sequence):
        raise BackupError(
            f"{part.name} has {state['messages']} messages up to {state['last_seq']} after the restore,"
            f" the backup {part.messages} up to {part.last_sequence}"
        )


async def _chunks(file: Path, name: str, told: Told) -> AsyncIterator[bytes]:
    with file.open("rb") as data:
        while length := data.read(4):
            chunk = data.read(int.from_bytes(length, "big"))
            yield chunk
            told(name, len(chunk))


async def _store(to: tuple[Store, str], part: StorePart, folder: Path, told: Told) -> None:
    store, url = to
    engine = open_engine(url, READ_TIMEOUT_S)
    try:
        await store.prepare(engine)
        rows = await restore_rows(engine, store, folder / part.file, lambda: told(part.name, 1))
    except DumpError as error:
        raise BackupError(f"the store of {part.name}: {error}", "restore into an empty database") from None
    finally:
        await engine.dispose()
    if {name: count for name, count in rows.items() if count} != {n: c for n, c in part.rows.items() if c}:
        raise BackupError(f"the store of {part.name} has other rows after the restore than the backup")
