"""``opsbus backup`` and ``opsbus restore``: the whole platform into a folder, and out of it into an empty one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nats.aio.client import Client

    from opsbus.backup.folder import Backup
    from opsbus.backup.make import Told
    from opsbus.backup.stores import Store
    from opsbus.settings import Settings

Data = Annotated[
    Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
]
WithStores = Annotated[bool, typer.Option(help="The services' databases too.")]


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for it.")],
    stores: WithStores = True,
    data: Data = Path(".opsbus"),
) -> None:
    """Back up streams, buckets, blobs and stores, while the platform runs.

    Keys are not in it: keep those of the data folder, or your secret store, beside it.
    Uses NATS_URL and, in OPSBUS_NATS_SEED_FILE, the seed of the identity 'provisioner'; else the running platform.
    """
    import asyncio

    from opsbus.backup.folder import BackupError
    from opsbus.backup.make import begin, make_backup
    from opsbus.commands.output import fail
    from opsbus.commands.where import NoPlatformError, bus_settings
    from opsbus.settings import SettingsError

    async def run() -> "Backup":
        async with _connected(settings) as client:
            with _progress() as told:
                return await make_backup(client, _stores(data) if stores else {}, folder, told)

    try:
        settings = bus_settings("provisioner", data)
        begin(folder)
        made = asyncio.run(run())
    except (NoPlatformError, BackupError) as error:
        fail(str(error), error.hint)
    except (SettingsError, OSError) as error:
        fail(str(error))
    _tell(made, "backed up")
    typer.echo(f"→ opsbus restore {folder}   takes it back, into an empty platform")


def restore(
    folder: Annotated[Path, typer.Argument(help="What 'opsbus backup' wrote.")],
    stores: WithStores = True,
    data: Data = Path(".opsbus"),
) -> None:
    """Restore a backup into an empty platform; nothing is overwritten.

    With NATS_URL set, into that server or cluster. Else into the data folder, with the platform stopped: its own
    NATS server is started for as long as it takes.
    """
    import asyncio

    from opsbus.backup.folder import BackupError, read_manifest
    from opsbus.backup.take_back import restore_backup
    from opsbus.commands.output import fail
    from opsbus.nats_server import NatsServerError
    from opsbus.settings import SettingsError
    from opsbus.up.folder import AlreadyRunningError

    async def run(settings: "Settings") -> None:
        async with _connected(settings) as client:
            with _progress() as told:
                await restore_backup(client, found, _stores(data) if stores else {}, folder, told)

    try:
        found = read_manifest(folder)
        if not stores:
            found.stores = []
        with _server(data) as settings:
            asyncio.run(run(settings))
    except BackupError as error:
        fail(str(error), error.hint)
    except AlreadyRunningError:
        fail(f"the platform in {data} runs", "stop it first, or name an empty --data folder")
    except (SettingsError, NatsServerError, OSError) as error:
        fail(str(error))
    _tell(found, "restored")


@contextmanager
def _server(data: Path) -> "Iterator[Settings]":
    """The server to restore into: the one named, else the data folder's own, started for the while."""
    import os

    from opsbus.nats_server import NatsServer, ServerOptions
    from opsbus.settings import Settings, load
    from opsbus.up.folder import Folder, locked
    from opsbus.up.keyring import open_keyring

    if os.environ.get("NATS_URL") or os.environ.get("OPSBUS_NATS_URL"):
        yield load(Settings, "provisioner")
        return
    place = Folder(data).create()
    with locked(place):
        keyring = open_keyring(place, ())
        server = NatsServer(ServerOptions(store_dir=place.nats / "data", users=keyring.users), place.nats)
        server.start()
        try:
            yield Settings(nats_url=server.url, nats_seed_file=keyring.seeds["provisioner"])
        finally:
            server.stop()


def _stores(data: Path) -> "dict[str, tuple[Store, str]]":
    from opsbus.backup.stores import installed_stores, store_url

    found = ((store, store_url(store.name, data)) for store in installed_stores())
    return {store.name: (store, url) for store, url in found if url is not None}


@asynccontextmanager
async def _connected(settings: "Settings") -> "AsyncIterator[Client]":
    import asyncio

    from nats import errors

    from opsbus.backup.folder import BackupError
    from opsbus.nats_client import ConnectError, close, connect, without_password
    from opsbus.up.prepare import CONNECT_TIMEOUT_S

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            client = await connect(settings, "provisioner")
    except ConnectError as error:
        raise BackupError(str(error), "set OPSBUS_NATS_SEED_FILE to the seed of the identity 'provisioner'") from None
    except (TimeoutError, OSError, errors.Error):
        shown = without_password(settings.nats_url)
        raise BackupError(f"no NATS server answers at {shown}", "is it running, and is NATS_URL right?") from None
    try:
        yield client
    finally:
        await close(client)


@contextmanager
def _progress() -> "Iterator[Told]":
    """A line for each part, on a terminal; silent in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<18}"), BarColumn(), TextColumn("{task.completed:>12,.0f}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        lines: dict[str, int] = {}

        def told(part: str, amount: int) -> None:
            if part not in lines:
                lines[part] = bar.add_task(part, total=None)
            bar.advance(lines[part], amount)  # type: ignore[arg-type]

        yield told


def _tell(backup: "Backup", verb: str) -> None:
    for part in backup.streams:
        if part.messages:
            typer.echo(f"{part.name:<18} {part.messages:>10,} messages  up to {part.last_sequence:,}")
    for store in backup.stores:
        rows = ", ".join(f"{count:,} {name}" for name, count in store.rows.items() if count) or "empty"
        typer.echo(f"{'store ' + store.name:<18} {sum(store.rows.values()):>10,} rows      {rows}")
    typer.echo(f"{len(backup.streams)} streams and buckets, {len(backup.stores)} stores {verb}")
