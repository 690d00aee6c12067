"""The bus made ready for the platform: what is declared exists on it, and the platform's public key is known."""

import asyncio
import getpass
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from nats import errors
from nats.js import JetStreamContext

from opsbus.identity import Signer
from opsbus.keys import publish_key
from opsbus.nats_client import ConnectError, connect, without_password
from opsbus.platform_audit import NotRecordedError, record_once
from opsbus.provision import Step, provision
from opsbus.settings import Settings, SettingsError, load
from opsbus.up.keyring import Keyring
from opsbus_contracts.audit import PlatformStage

CONNECT_TIMEOUT_S = 6.0
_IDENTITY = "provisioner"
_OWN_SERVER = "a NATS server of your own must know the users of nats/nats-server.conf in the data folder"


class ProvisionError(Exception):
    """The bus cannot be made ready; in one line why, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass
class Provisioned:
    """What was done to a bus."""

    steps: list[Step] = field(default_factory=list)
    new_key: str = ""
    """Id of an identity key that was not published before."""
    unrecorded: str = ""
    """Why the record does not have it; empty: it has, or there was nothing to record."""


async def prepare_bus(nats_url: str, keyring: Keyring) -> str:
    """Provision, publish the key that signs identities; in a few words what was done.

    Raises:
        ProvisionError: no connection, no JetStream, or the server refuses a declaration.
    """
    settings = load(Settings, _IDENTITY, nats_url=nats_url, nats_seed_file=keyring.seeds[_IDENTITY])
    done = await provision_bus(settings, keyring.identity)
    refused = [step for step in done.steps if step.action == "refused"]
    if refused:
        first = refused[0]
        raise ProvisionError(f"{first.kind} {first.name}: {first.problem}", "; ".join(first.drift))
    return told(done.steps) + (f"; {done.unrecorded}" if done.unrecorded else "")


async def provision_bus(settings: Settings, signer: Signer | None, replicas: int = 1) -> Provisioned:
    """Make the bus what the contracts declare, publish the public part of ``signer``, and record what was changed.

    Recorded afterwards: before it there may be no stream to record in.

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
    done = Provisioned()
    js = client.jetstream()
    try:
        await provision(js, replicas=replicas, done=done.steps)
        if signer is not None and await publish_key(js, signer.public()):
            done.new_key = signer.kid
        await _record(js, done, replicas)
    except (TimeoutError, errors.Error) as error:
        problem = str(error) or type(error).__name__
        await _record(js, done, replicas, problem)
        raise ProvisionError(f"JetStream does not do it: {problem}", "is it enabled?") from None
    finally:
        await client.close()
    return done


async def _record(js: JetStreamContext, done: Provisioned, replicas: int, problem: str = "") -> None:
    """An event when anything was changed or refused. ``problem``: what ended it in the middle."""
    facts = changes(done.steps)
    if done.new_key:
        facts["identity_key"] = done.new_key
    if not facts:
        return
    facts |= {"replicas": replicas} | ({"problem": problem[:500]} if problem else {})
    try:
        await record_once(
            js, _IDENTITY, PlatformStage.PROVISIONED, actor=getpass.getuser(), target="bus", details=facts
        )
    except NotRecordedError as error:
        done.unrecorded = f"not in the record: {error}"


def changes(steps: list[Step]) -> dict[str, Any]:
    """What was created, updated and refused, as facts for the record; empty: nothing."""
    created = [f"{step.kind} {step.name}" for step in steps if step.action == "created"]
    updated = {f"{step.kind} {step.name}": list(step.drift) for step in steps if step.action == "updated"}
    refused = {
        f"{step.kind} {step.name}": {"drift": list(step.drift), "problem": step.problem[:500]}
        for step in steps
        if step.action == "refused"
    }
    found: dict[str, Any] = {"created": created, "updated": updated, "refused": refused}
    return {name: value for name, value in found.items() if value}


def told(steps: list[Step]) -> str:
    """``9 streams and buckets created`` or ``nothing to change``."""
    counted = Counter(step.action for step in steps if step.action in ("created", "updated"))
    return (
        ", ".join(f"{count} streams and buckets {action}" for action, count in counted.items()) or "nothing to change"
    )
