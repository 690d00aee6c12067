"""Verifying a running platform: its stream as the auditor, and its store."""

from collections.abc import Sequence

from opsbus.commands.output import warn
from opsbus.database import open_engine
from opsbus.nats_client import close, connect
from opsbus_audit.access import run
from opsbus_audit.locate import IDENTITY, PlatformError, bus_settings, store_url
from opsbus_audit.proof.finding import Report
from opsbus_audit.proof.in_store import verify_store
from opsbus_audit.proof.leaf import Told
from opsbus_audit.proof.live import verify_stream
from opsbus_audit.proof.note import VerifierKey

_STATEMENT_S = 600.0


def verify_platform(
    keys: Sequence[VerifierKey], told: Told | None, *, stream: bool, store: bool, url: str | None, folder: str
) -> list[Report]:
    """Check what is there; what cannot be reached ends the command, but a store that nobody named is left out."""

    async def work() -> list[Report]:
        reports: list[Report] = []
        engine = None
        try:
            engine = open_engine(store_url(url, folder), _STATEMENT_S, read_only=True)
        except PlatformError as error:
            if not stream:
                raise
            warn(f"{error}: the stream is checked against its checkpoints alone")
        try:
            if store and engine is not None:
                reports.append(await verify_store(engine, keys, told))
            if stream:
                client = await connect(bus_settings(folder), IDENTITY, name="opsbus-audit-verify")
                try:
                    reports.append(await verify_stream(client, keys, engine, told))
                finally:
                    await close(client)
        finally:
            if engine is not None:
                await engine.dispose()
        return reports

    found = run(work())
    if found is None:
        raise SystemExit(130)
    return found
