"""``opsbus stdio``: MCP over stdin and stdout, for an assistant that starts its servers itself.

An edge of its own on the bus, with the settings of an edge; where there are none, with what the running platform wrote
down.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opsbus_edge.settings import EdgeSettings

LAB_ROLES = ("operator",)
"""On one's own machine, beside one's own platform: what its client configuration for HTTP has, too."""

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def stdio(
    role: Annotated[
        list[str] | None, typer.Option(help="Role of this session, may be repeated; OPSBUS_EDGE_STDIO_ROLES.")
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
    ] = Path(".opsbus"),
) -> None:
    """Serve MCP on stdin and stdout until stdin closes."""
    import asyncio
    import sys

    from opsbus import logs
    from opsbus.commands.output import fail
    from opsbus.commands.where import NoPlatformError
    from opsbus.nats_client import ConnectError
    from opsbus.settings import SettingsError

    try:
        settings = _settings(data, role or [])
        logs.configure(settings.log_level, settings.log_format)
        if sys.stdin.isatty():
            typer.echo(
                "opsbus stdio speaks MCP on standard input and output, one JSON message a line: it is for an assistant"
                " to start.\nFor you there is 'opsbus call'. Ctrl-D ends it.",
                err=True,
            )
        asyncio.run(_serve(settings))
    except NoPlatformError as error:
        fail(str(error), error.hint, 2)
    except (SettingsError, ConnectError) as error:
        fail(f"stdio: {error}", code=2)
    except TimeoutError:
        fail("stdio: the bus did not answer in time", "run 'opsbus doctor'", 3)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _serve(settings: "EdgeSettings") -> None:
    from opsbus_edge.mcp_face.stdio import serve_stdio
    from opsbus_edge.wiring import running_edge

    async with running_edge(settings) as edge:
        await serve_stdio(edge)


def _settings(data: Path, roles: list[str]) -> "EdgeSettings":
    """The edge's settings; on one's own machine completed by what the running platform wrote down.

    Raises:
        NoPlatformError: neither settings nor a platform.
        SettingsError: a setting is wrong.
    """
    import os

    from opsbus.commands.where import bus_settings
    from opsbus.settings import load
    from opsbus.up.folder import Folder
    from opsbus_edge.settings import EdgeSettings

    given: dict[str, object] = {"log_level": os.environ.get("OPSBUS_LOG_LEVEL") or "warning"}
    if roles:
        given["stdio_roles"] = roles
    if os.environ.get("NATS_URL") or os.environ.get("OPSBUS_NATS_URL") or os.environ.get("OPSBUS_CONFIG"):
        return load(EdgeSettings, "edge", **given)
    bus = bus_settings("edge", data)
    keys = Folder(data).keys
    lab: dict[str, object] = {
        "nats_url": bus.nats_url,
        "nats_seed_file": bus.nats_seed_file,
        "identity_key_file": keys / "identity-signing.pem",
        "seal_key_file": keys / "edge-seal.key",
    }
    if not os.environ.get("OPSBUS_EDGE_STDIO_ROLES"):
        lab["stdio_roles"] = list(LAB_ROLES)
    return load(EdgeSettings, "edge", **(lab | given))
