"""What ``opsbus audit forget`` does: the key of a person's data is destroyed. The record keeps its bytes and proofs."""

import asyncio
import getpass
from pathlib import Path

import typer
from nats import errors

from opsbus.commands.output import fail
from opsbus.commands.where import NoPlatformError, bus_settings
from opsbus.nats_client import ConnectError, close, connect
from opsbus.personal import Persons, PersonsError
from opsbus.platform_audit import NotRecordedError, record_once
from opsbus.settings import SettingsError
from opsbus_contracts.audit import PlatformStage

IDENTITY = "keeper"
_CONNECT_TIMEOUT_S = 6.0


def forget(who: str, reason: str, by: str, yes: bool, folder: str) -> None:
    """Destroy the key, and record that it was done: by the pseudonym, for the name must not come back that way."""
    if not yes and not typer.confirm(f"Nobody will be able to tell which calls {who} made. Go on?"):
        raise typer.Exit(1)
    try:
        pseudonym = asyncio.run(_forget(who, reason, by or getpass.getuser(), folder))
    except NoPlatformError as error:
        fail(str(error), error.hint)
    except (ConnectError, SettingsError) as error:
        fail(str(error))
    except PersonsError as error:
        fail(str(error), "'opsbus doctor' looks whether the bus is well")
    except NotRecordedError as error:
        fail(f"the key is destroyed, but {error}", "run it again when the record takes events: it will say so then")
    except (errors.Error, TimeoutError, OSError) as error:
        fail(f"the bus does not do it ({type(error).__name__})", "is it running? 'opsbus doctor' looks")
    if pseudonym is None:
        fail(
            f"there is no key for {who}: the edges record in the clear (audit_personal), or the person is forgotten",
            "give the caller's sub, exactly as 'opsbus audit search' shows it",
        )
    typer.echo(f"{who} is forgotten; what was done stays in the record as done by {pseudonym}")
    typer.echo("Backups that hold the key bring it back: let go of those made before now.", err=True)


async def _forget(who: str, reason: str, by: str, folder: str) -> str | None:
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        client = await connect(bus_settings(IDENTITY, Path(folder)), IDENTITY, name="opsbus-audit-forget")
    try:
        js = client.jetstream(timeout=5.0)
        pseudonym = await Persons(js).forget(who)
        if pseudonym is not None:
            await record_once(js, IDENTITY, PlatformStage.FORGOTTEN, actor=by, target=pseudonym, reason=reason)
        return pseudonym
    finally:
        await close(client)
