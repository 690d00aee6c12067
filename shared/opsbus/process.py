"""A worker as a process: settings, logs, signals, the file that says it is ready.

What it serves is the runtime's matter.
"""

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from opsbus import logs, settings
from opsbus.nats_client import ConnectError
from opsbus.scheduling import ask_for
from opsbus.settings import Settings, SettingsError

if TYPE_CHECKING:  # the edge has its own process, and need not load what a worker runs on
    from opsbus.runtime import Runtime
    from opsbus.worker import Worker

WRONG_SETTING = 2
"""Exit code of a process that cannot start with these settings."""


def fail(message: str) -> NoReturn:
    """Ends the process with one line."""
    sys.stderr.write(f"opsbus: {message}\n")
    sys.exit(WRONG_SETTING)


def run_worker(worker: "Worker") -> None:
    """Runs until SIGTERM or SIGINT, then drains."""
    try:
        loaded = settings.load(worker.settings_class, worker.name)
    except SettingsError as error:
        fail(str(error))
    logs.configure(loaded.log_level, loaded.log_format)
    ask_for(loaded.scheduling)
    log = logs.get(worker.name)
    for warning in settings.unknown_variables(worker.settings_class, worker.name):
        log.warning("unknown_setting", problem=warning)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            ended_well = runner.run(serve(worker, loaded))
    except (SettingsError, ConnectError) as error:
        fail(f"{worker.name}: {error}")
    except Exception as error:
        log.exception("failed", error, hint="The worker could not start or stop; the cause is in the traceback.")
        sys.exit(1)
    if not ended_well:
        sys.exit(1)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which is about twice as fast; asyncio's own where there is none (Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def settle_memory() -> None:
    """What is loaded by now stays: collecting it again and again would stop every call for its time."""
    gc.collect()
    _give_back()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


def _give_back() -> None:
    """To the system, what start-up has freed: five megabytes where Python has compiled what it loaded, as in the image,
    which has no bytecode. Only glibc keeps it."""
    with suppress(OSError, AttributeError, TypeError):  # musl has none, and Windows names no library so
        ctypes.CDLL(None).malloc_trim(0)


async def serve(worker: "Worker", loaded: Settings) -> bool:
    """Serves until a signal comes. False: the connection to NATS was closed for good."""
    from opsbus.runtime import Runtime

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = Runtime(worker, loaded)
    starting = asyncio.create_task(runtime.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return True
    starting.result()
    settle_memory()
    tell_ready(runtime, loaded.ready_file)
    losing = asyncio.create_task(runtime.lost.wait())
    try:
        await asyncio.wait({stopping, losing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        losing.cancel()
        runtime.log.info("draining", calls=len(runtime.calls))
        await runtime.stop()
        runtime.log.info("stopped")
    return not runtime.lost.is_set()


def tell_ready(runtime: "Runtime", ready_file: Path | None) -> None:
    """Says that the instance is ready: in the log, and in the file whoever started the process watches."""
    facts = {
        "service": runtime.worker.name,
        "instance": runtime.instance,
        "http_url": runtime.http_url,
        "pid": os.getpid(),
    }
    runtime.log.info("ready", http=runtime.http_url)
    if ready_file is not None:
        write_ready_file(ready_file, facts)


def write_ready_file(path: Path, facts: dict[str, object]) -> None:
    """Writes the file in one step: a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(path)
