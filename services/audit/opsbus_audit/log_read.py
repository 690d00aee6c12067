"""A reading of the record from a terminal, in the record: that it begins, before anything is read, and how it ended.

Both events have one call id. Tools that read are calls, and recorded as such by the edge.
"""

import getpass
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import typer
from nats.aio.client import Client

from opsbus.personal import Persons, PersonsError
from opsbus.platform_audit import NotRecordedError, PlatformAudit
from opsbus_audit.locate import IDENTITY
from opsbus_contracts.audit import PlatformStage

TARGET = "AUDIT"


class Reading:
    """How much was read so far."""

    def __init__(self) -> None:
        self.events = 0


async def _covered(persons: Persons, facts: dict[str, Any]) -> dict[str, Any]:
    """A caller who is under a pseudonym in the record is not named by the question about them."""
    actor = facts.get("question", {}).get("actor")
    if not isinstance(actor, str):
        return facts
    try:
        person = await persons.find(actor)
    except PersonsError as error:
        raise NotRecordedError(str(error)) from None
    return facts if person is None else facts | {"question": facts["question"] | {"actor": person.pseudonym}}


@asynccontextmanager
async def recorded(
    client: Client, facts: dict[str, Any], stage: PlatformStage = PlatformStage.LOG_READ
) -> AsyncIterator[Reading]:
    """Record that the record is read, and afterwards how many events were.

    Args:
        client: Of the identity ``auditor``.
        facts: What is asked for.

    Raises:
        NotRecordedError: the record did not take it: nothing may be read. That the end is not recorded is told on
            stderr alone, for what was read has been read.
    """
    js = client.jetstream()
    audit, reading, ended = PlatformAudit(js, IDENTITY), Reading(), "broken_off"
    common = {"actor": getpass.getuser(), "target": TARGET, "call": secrets.token_hex(16)}
    await audit.record(stage, details=await _covered(Persons(js), facts), **common)
    try:
        yield reading
        ended = "whole"
    finally:
        try:
            await audit.record(stage, details={"ended": ended, "events": reading.events}, **common)
        except NotRecordedError as error:
            typer.echo(f"! how many events were read is not recorded: {error}", err=True)
