"""`python -m opsbus_sandbox`: serve the estate until told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationError

from opsbus_sandbox.settings import SandboxSettings

SETTINGS_EXIT_CODE = 2


async def _serve(settings: SandboxSettings) -> int:
    from opsbus_sandbox.app import start

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        estate = await start(settings)
    except OSError as error:
        sys.stderr.write(f"the practice estate cannot listen or write its files: {error}\n")
        return 1
    facts = {"service": "sandbox", "pid": os.getpid(), **estate.facts}
    if settings.ready_file is not None:
        _write(settings.ready_file, json.dumps(facts))
    sys.stdout.write("".join(f"{name:17} {value}\n" for name, value in estate.facts.items()))
    sys.stdout.flush()
    await stop.wait()
    await estate.close()
    return 0


def _write(path: Path, text: str) -> None:
    """Whole or not at all: somebody waits for this file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def main() -> int:
    """0 after a clean stop, 1 when a port is taken, 2 when a setting is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = SandboxSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        sys.stderr.write(f"OPSBUS_SANDBOX_{name}: {first['msg']}\n")
        return SETTINGS_EXIT_CODE
    return asyncio.run(_serve(settings))


def run() -> None:
    """The same for `opsbus run sandbox`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
