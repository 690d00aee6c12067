"""``opsbus provision``: what the contracts declare, on a NATS server of one's own; and the key of a new worker."""

from pathlib import Path
from typing import Annotated

import typer


def provision(
    service: Annotated[
        str, typer.Option(metavar="NAME", help="Print the key and the grants of a worker instead; changes nothing.")
    ] = "",
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream: 3 in a cluster.")] = 1,
    identity_key: Annotated[
        Path | None, typer.Option(help="PEM of the key whose public part may sign identities; put into KEYS.")
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
    ] = Path(".opsbus"),
) -> None:
    """Create the streams, buckets and consumers, and change back what drifted. Nothing is deleted; it is recorded.

    Uses NATS_URL and, in OPSBUS_NATS_SEED_FILE, the seed of the identity 'provisioner'.
    """
    import asyncio

    if service:
        _show_identity(service)
        return
    from opsbus.commands.output import fail
    from opsbus.commands.where import NoPlatformError, bus_settings
    from opsbus.settings import SettingsError
    from opsbus.up.prepare import ProvisionError, provision_bus

    try:
        settings = bus_settings("provisioner", data)
        signer = _signer(identity_key) if identity_key is not None else None
        done = asyncio.run(provision_bus(settings, signer, replicas))
    except (NoPlatformError, ProvisionError) as error:
        fail(str(error), error.hint)
    except SettingsError as error:
        fail(str(error))
    steps = done.steps
    width = max(len(f"{step.kind} {step.name}") for step in steps)
    for step in steps:
        typer.echo(f"{step.action:<10} {f'{step.kind} {step.name}':<{width}}  {'; '.join(step.drift)}".rstrip())
        if step.problem:
            typer.echo(f"           {step.problem}")
    if signer is not None:
        typer.echo(f"{'published':<10} identity key {signer.kid}")
    if done.unrecorded:
        typer.echo(f"! {done.unrecorded}", err=True)
    raise typer.Exit(1 if done.unrecorded or any(step.action == "refused" for step in steps) else 0)


def _signer(path: Path):  # type: ignore[no-untyped-def]
    from opsbus.commands.output import fail
    from opsbus.identity import Signer

    try:
        return Signer.from_pem(path.read_bytes())
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror or error}")
    except ValueError:
        fail(f"{path} holds no unencrypted Ed25519 private key in PEM")


def _show_identity(service: str) -> None:
    """The seed for the worker, the block for the server."""
    import json
    import re

    from opsbus.commands.output import fail
    from opsbus.nats_server import permissions
    from opsbus.nkeys_ import new_user
    from opsbus_contracts.names import SERVICE_PATTERN

    if not re.fullmatch(SERVICE_PATTERN, service):
        fail(f"'{service}' is no service token", "1 to 31 lower-case letters, digits, - and _, a letter first")
    key = new_user()
    block = {"nkey": key.public, "permissions": permissions(service)}
    typer.echo(
        "# The worker's seed: secret, shown once. Keep it in a file and name that in OPSBUS_NATS_SEED_FILE.\n"
        f"{key.seed}\n"
    )
    typer.echo(f"# For 'accounts.BUS.users' of the NATS server: the identity '{service}' and all it may do.")
    typer.echo(json.dumps(block, indent=2))
