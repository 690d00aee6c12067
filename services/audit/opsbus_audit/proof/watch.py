"""Where a witness gets checkpoints: the bus, a file, a URL. Judging them is witness.py's matter."""

import asyncio
import io
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import aiohttp
import typer
from nats import errors
from nats.aio.client import Client
from nats.js import errors as js_errors

from opsbus.commands.output import fail, warn
from opsbus.commands.where import NoPlatformError, bus_settings
from opsbus.nats_client import ConnectError, close, connect
from opsbus.platform_audit import NotRecordedError, record_once
from opsbus.settings import SettingsError
from opsbus_audit.ordered import Range, StreamReader
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, read_entries
from opsbus_audit.proof.command import TAMPERED, keys_of
from opsbus_audit.proof.live import head_of
from opsbus_audit.proof.merkle import ProofError
from opsbus_audit.proof.note import COSIGNATURE, Note, NoteError, SigningKey, VerifierKey
from opsbus_audit.proof.signer import STREAM, SUBJECT
from opsbus_audit.proof.witness import ForkError, Witness
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.streams import CHECKPOINTS

IDENTITY = "witness"
COSIGNED = "checkpoint.witness"
FILE_BYTES_MAX = 256 * 1024 * 1024
_CONNECT_S = 10.0
_HTTP_S = 30.0
_OVERDUE_S = 30.0
"""Two instances of the worker may hand on in the wrong order, but not for long. Seconds."""


def witness(
    source: str | None, *, state: Path, keys: Sequence[str], sign_key: Path | None, name: str, follow: bool,
    every_s: float, folder: str,
) -> None:  # fmt: skip
    """Watch until Ctrl-C, or until a fork is seen: then a loud message, an event on the bus, and exit code 3."""
    known = keys_of(keys, folder)
    try:
        own = None if sign_key is None else SigningKey.load(name, sign_key, COSIGNATURE)
        watching = Witness(state, known, own)
    except ForkError as error:
        _loud(str(error))
    except (NoteError, OSError) as error:
        fail(str(error), "--state names the witness's own file, --sign-key an Ed25519 key in PEM")
    if own is not None:
        typer.echo(f"cosigning as {own.public}", err=True)
    work = (
        _bus(watching, known, own is not None, follow, folder)
        if source is None
        else _other(source, watching, follow, every_s)
    )
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        pass
    except ForkError as error:
        _loud(str(error))
    except (NoteError, ProofError) as error:
        fail(str(error), "is --key the key of this log, and is the source complete?")
    except (NoPlatformError, SettingsError, ConnectError) as error:
        fail(str(error), "set NATS_URL and OPSBUS_NATS_SEED_FILE (identity witness), or name a file or URL")
    except js_errors.NotFoundError:
        fail("there is no stream CHECKPOINTS on this bus", "create it: opsbus provision")
    except (TimeoutError, errors.Error, aiohttp.ClientError, OSError) as error:
        fail(f"the checkpoints cannot be read ({type(error).__name__}: {str(error)[:200]})")
    finally:
        watching.close()


async def _bus(watching: Witness, keys: Sequence[VerifierKey], cosigns: bool, follow: bool, folder: str) -> None:
    async with asyncio.timeout(_CONNECT_S):
        client = await connect(bus_settings(IDENTITY, Path(folder)), IDENTITY, name="opsbus-audit-witness")
    try:
        async with aclosing(_entries(client, keys, follow)) as entries:
            async for entry in entries:
                for signed in [] if entry is None else _tell(watching, entry):
                    if cosigns:
                        await client.jetstream().publish(COSIGNED, str(signed).encode())
                watching.overdue(_OVERDUE_S)
        watching.overdue(0)
    except ForkError as error:
        await _alarm(client, str(error))
        raise
    finally:
        await close(client)


async def _entries(client: Client, keys: Sequence[VerifierKey], follow: bool) -> AsyncGenerator[Entry | None, None]:
    state = (await client.jetstream(timeout=5.0).stream_info(STREAM)).state
    if not follow and not state.messages:
        return
    wanted = Range(first=1, to_end=not follow, subject=CHECKPOINTS.subjects[0], stream=STREAM)
    async with aclosing(StreamReader(client, wanted).batches()) as batches:
        async for batch in batches:
            if not batch:
                yield None
            for recorded in batch:
                if recorded.subject == SUBJECT:
                    head = head_of(recorded, keys)
                    yield Entry(head.old, head.proof, Note.parse(recorded.payload))
            if not follow and batch and batch[-1].sequence >= state.last_seq:
                return


async def _other(source: str, watching: Witness, follow: bool, every_s: float) -> None:
    while True:
        data = await _fetched(source)
        for entry in read_entries(io.BytesIO(data)):
            _tell(watching, entry)
        watching.overdue(0)
        if not follow:
            return
        await asyncio.sleep(every_s)


async def _fetched(source: str) -> bytes:
    if not source.startswith(("http://", "https://")):
        return await asyncio.to_thread(Path(source).read_bytes)
    timeout = aiohttp.ClientTimeout(total=_HTTP_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(source) as response:
        response.raise_for_status()
        data = await response.content.read(FILE_BYTES_MAX + 1)
        while len(data) <= FILE_BYTES_MAX and (more := await response.content.read(FILE_BYTES_MAX)):
            data += more
        if len(data) > FILE_BYTES_MAX:
            raise NoteError("the file of checkpoints is too large")
        return data


def _tell(watching: Witness, entry: Entry) -> list[Note]:
    signed = watching.take(entry)
    for note in signed:
        found = Checkpoint.of(note)
        typer.echo(f"{found.size:>12,} leaves, root {found.root.hex()[:16]}..., consistent")
    return signed


async def _alarm(client: Client, what: str) -> None:
    with suppress(NotRecordedError):
        await record_once(
            client.jetstream(), IDENTITY, PlatformStage.FORK_FOUND, actor=IDENTITY, target="CHECKPOINTS", reason=what
        )
        return
    warn("the alarm could not be recorded on the bus")


def _loud(what: str) -> None:
    typer.echo(
        f"\nFORK: THE RECORD HAS TWO PASTS\n{what}\nNothing is cosigned any more. Keep this witness's files.", err=True
    )
    sys.stderr.flush()
    raise SystemExit(TAMPERED)
