"""The edge as a process: settings, HTTP server, signals, drain. What it is made of: wiring.py."""

import asyncio
import os
import signal

from opsbus import logs
from opsbus.nats_client import ConnectError, without_password
from opsbus.process import fail, loop_factory, settle_memory, write_ready_file
from opsbus.scheduling import ask_for
from opsbus.service import Service
from opsbus.settings import SettingsError, load, unknown_variables
from opsbus_edge import mcp_light  # noqa: F401 - before mcp
from opsbus_edge.asgi.serve import serving
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.wiring import running_edge

log = logs.get("edge")


def main() -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    try:
        settings = load(EdgeSettings, "edge")
    except SettingsError as error:
        fail(str(error))
    logs.configure(settings.log_level, settings.log_format)
    ask_for(settings.scheduling)
    for warning in unknown_variables(EdgeSettings, "edge"):
        log.warning("unknown setting", problem=warning)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(settings))
    except (SettingsError, ConnectError) as error:
        fail(f"edge: {error}")
    except TimeoutError:
        fail(f"edge: NATS at {without_password(settings.nats_url)} did not answer in time; is it provisioned?")
    except OSError as error:
        fail(f"edge: {error.strerror or error} (HTTP at {settings.http_host}:{settings.http_port})")


async def run(settings: EdgeSettings) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_edge(settings) as edge, serving(edge) as url:
        loop.add_signal_handler(signal.SIGHUP, edge.signing.reload)
        settle_memory()
        log.info("ready", http=url, instance=edge.instance, tools=len(edge.catalog.tools()))
        if settings.ready_file is not None:
            facts = {"service": "edge", "instance": edge.instance, "http_url": url, "pid": os.getpid()}
            write_ready_file(settings.ready_file, facts)
        await stop.wait()
        edge.drain.set()
        log.info("draining", calls=edge.pipeline.under_way)
        await asyncio.sleep(settings.drain_grace_s)
    log.info("stopped")


service = Service(
    name="edge",
    token="edge",  # noqa: S106 - its name on the bus
    main=main,
    order=90,
    needs=("nats",),
    kind="edge",
    description="MCP and REST in front, workers behind",
)
