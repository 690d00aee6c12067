"""The bus made ready for the platform: what is declared exists on it, and the platform's public key is known."""

import asyncio
from collections import Counter

from nats import errors

from opsbus.identity import Signer
from opsbus.keys import publish_key
from opsbus.nats_client import ConnectError, connect, without_password
from opsbus.provision import Step, provision
from opsbus.settings import Settings, SettingsError, load
from opsbus.up.keyring import Keyring

CONNECT_TIMEOUT_S = 6.0
_IDENTITY = "provisioner"
_OWN_SERVER = "a NATS server of your own must know the users of nats/nats-server.conf in the data folder"


class ProvisionError(Exception):
    """The bus cannot be made ready; in one line why, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


async def prepare_bus(nats_url: str, keyring: Keyring) -> str:
    """Provision, publish the key that signs identities; in a few words what was done.

    Raises:
        ProvisionError: no connection, no JetStream, or the server refuses a declaration.
    """
    settings = load(Settings, _IDENTITY, nats_url=nats_url, nats_seed_file=keyring.seeds[_IDENTITY])
    steps = await provision_bus(settings, keyring.identity)
    refused = [step for step in steps if step.action == "refused"]
    if refused:
        first = refused[0]
        raise ProvisionError(f"{first.kind} {first.name}: {first.problem}", "; ".join(first.drift))
    return told(steps)


async def provision_bus(settings: Settings, signer: Signer | None, replicas: int = 1) -> list[Step]:
    """Make the bus what the contracts declare, and publish the public part of ``signer``.

    Raises:
        ProvisionError: no connection, or no JetStream.
    """
    shown = without_password(settings.nats_url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            client = await connect(settings, _IDENTITY)
    except (ConnectError, SettingsError) as error:
        raise ProvisionError(str(error), _OWN_SERVER) from None
    except (TimeoutError, OSError, errors.Error):
        raise ProvisionError(f"no NATS server answers at {shown}", "is it running, and is NATS_URL right?") from None
    try:
        js = client.jetstream()
        steps = await provision(js, replicas=replicas)
        if signer is not None:
            await publish_key(js, signer.public())
    except (TimeoutError, errors.Error) as error:
        raise ProvisionError(f"JetStream does not do it: {error or type(error).__name__}", "is it enabled?") from None
    finally:
        await client.close()
    return steps


def told(steps: list[Step]) -> str:
    """``9 streams and buckets created`` or ``nothing to change``."""
    counted = Counter(step.action for step in steps if step.action in ("created", "updated"))
    return (
        ", ".join(f"{count} streams and buckets {action}" for action, count in counted.items()) or "nothing to change"
    )
