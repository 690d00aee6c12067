"""`python -m opsbus_sandbox`: serve the estate until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from pydantic import ValidationError

from opsbus_sandbox.app import start
from opsbus_sandbox.settings import SandboxSettings


async def _serve(settings: SandboxSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    estate = await start(settings)
    sys.stdout.write(f"kubernetes {estate.kube_url}\nkubeconfig {estate.kubeconfig}\n")
    sys.stdout.flush()
    await stop.wait()
    await estate.close()


def main() -> int:
    """0 after a clean stop, 2 when a setting is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = SandboxSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        sys.stderr.write(f"OPSBUS_SANDBOX_{name}: {first['msg']}\n")
        return 2
    asyncio.run(_serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
