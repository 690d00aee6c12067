"""What the keeper's commands share: a connection as the keeper, errors in one line, who acts, spans of time."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from opsbus.settings import Settings

T = TypeVar("T")

KEEPER = "keeper"
CONNECT_TIMEOUT_S = 8.0


@asynccontextmanager
async def keeper(data: Path) -> "AsyncIterator[JetStreamContext]":
    """JetStream as the keeper; the bus is the environment's or the running platform's."""
    from opsbus import nats_client
    from opsbus.commands.where import bus_settings

    settings: Settings = bus_settings(KEEPER, data)
    denied: list[Exception] = []
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        client = await nats_client.connect(settings, KEEPER, on_error=denied.append)
    try:
        yield client.jetstream(timeout=5.0)
    finally:
        await nats_client.close(client)


def guarded(work: "Callable[[], Awaitable[T]]") -> T:
    """``work``, whose known failures end the command in one line."""
    from nats import errors
    from nats.js import errors as js_errors

    from opsbus.apikey_store import ApiKeyError
    from opsbus.commands.output import fail
    from opsbus.commands.where import NoPlatformError
    from opsbus.nats_client import ConnectError
    from opsbus.platform_audit import NotRecordedError
    from opsbus.quarantine_store import QuarantineError
    from opsbus.settings import SettingsError

    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except (ApiKeyError, QuarantineError, NoPlatformError) as error:
        fail(str(error), error.hint)
    except NotRecordedError as error:
        fail(str(error), "is the stream AUDIT full, or the bus away? 'opsbus doctor' looks")
    except (ConnectError, SettingsError) as error:
        fail(str(error))
    except (errors.Error, js_errors.Error, TimeoutError, OSError) as error:
        fail(
            f"the bus does not do it ({type(error).__name__})", "is it running, and provisioned? 'opsbus doctor' looks"
        )


def span(text: str, option: str, most_s: int) -> int:
    """Seconds of ``1h30m``."""
    import re

    from opsbus.commands.output import fail
    from opsbus.when import seconds_of

    if not re.fullmatch(r"(?:\d{1,6}[smhdw])+", text.strip()):
        fail(f"{option}: {text[:40]!r} is no span", "write it as 1h, 30m, 1h30m or 0s")
    seconds = seconds_of(text.strip())
    if seconds > most_s:
        fail(f"{option}: {text} is too long", f"at most {timedelta(seconds=most_s)}")
    return seconds


def user() -> str:
    """Who acts, when nobody says it: the user of this shell."""
    try:
        return f"{getpass.getuser()}@os"
    except (OSError, KeyError):  # a user id without a name
        import os

        return f"uid-{os.getuid()}@os"
