"""``opsbus run SERVICE``: one service in this process, until it is told to stop."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opsbus.service import Service


def run(
    service: Annotated[str, typer.Argument(help="The service's name, as 'opsbus services' lists it.")],
    shadow: Annotated[
        bool, typer.Option(help="As a candidate: answers only what 'opsbus audit shadow' sends, and only reads.")
    ] = False,
    data: Annotated[
        Path, typer.Option(envvar="OPSBUS_DATA", help="With --shadow: data folder of the platform it stands beside.")
    ] = Path(".opsbus"),
) -> None:
    """Run one service until SIGTERM or Ctrl-C."""
    from opsbus.commands.discover import SERVICES, BrokenEntryPointError, find, names, similar
    from opsbus.commands.output import fail
    from opsbus.service import Service

    entry = find(SERVICES, service)
    if entry is None:
        near = similar(SERVICES, service)
        hint = f"did you mean {' or '.join(near)}?" if near else f"installed: {', '.join(names(SERVICES)) or 'none'}"
        fail(f"no service '{service}' is installed", hint)
    try:
        found = entry.load(Service)
    except BrokenEntryPointError as error:
        fail(str(error), error.hint)
    if shadow:
        _stand_beside(found, data)
    found.main()


def _stand_beside(service: "Service", data: Path) -> None:
    """Settings of a candidate, for all that the environment does not say: the bus and the keys of the data folder."""
    from opsbus import shadow
    from opsbus.commands.output import fail
    from opsbus.commands.where import NoPlatformError, bus_settings
    from opsbus.settings import SettingsError

    if service.kind != "worker":
        fail(f"{service.name} is no worker", "only a worker can be a candidate")
    os.environ["OPSBUS_SHADOW"] = "true"
    try:
        beside = bus_settings(service.token, data)
    except NoPlatformError as error:
        fail(str(error), error.hint)
    except SettingsError as error:
        fail(str(error))
    os.environ["NATS_URL"] = beside.nats_url
    if beside.nats_seed_file is not None:
        os.environ["OPSBUS_NATS_SEED_FILE"] = str(beside.nats_seed_file)
    key = data / "keys" / shadow.KEY_NAME
    try:
        if not os.environ.get("OPSBUS_SHADOW_KEY_FILE"):
            shadow.signer(key)
            os.environ["OPSBUS_SHADOW_KEY_FILE"] = str(key.with_suffix(".pub.pem"))
    except (OSError, ValueError) as error:
        fail(f"{key}: {error}", "set OPSBUS_SHADOW_KEY_FILE to the public key of who sends the calls")
