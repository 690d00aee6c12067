"""Recorded events onto ``replay.<service>.<recorded subject>``, for a consumer in development. Not part of the record:
core messages, to whoever listens."""

import re

from nats import errors
from nats.aio.client import Client

from opsbus_audit.ordered import Recorded
from opsbus_audit.replay.forms import stored_at
from opsbus_contracts.names import SERVICE_PATTERN

SEQUENCE = "Opsbus-Replay-Sequence"
STORED_AT = "Opsbus-Replay-Stored-At"
_FLUSH_S = 10.0


class NotPublishedError(Exception):
    """The bus refuses the subject, or does not take the messages; one line."""


def checked(subject: str) -> str:
    """``replay.billing``: what the recorded subject follows.

    Raises:
        ValueError: not a subject the auditor may publish.
    """
    given = subject.removesuffix(".>").removesuffix(".")
    service = given.removeprefix("replay.")
    if not given.startswith("replay.") or not re.fullmatch(SERVICE_PATTERN, service):
        raise ValueError(f"{subject[:80]!r} is no subject for a replay: replay.<service>, as replay.billing")
    return given


class Publisher:
    """Publishes in order; ``flush`` makes sure that the server has taken what was published."""

    def __init__(self, client: Client, subject: str, refused: list[Exception]) -> None:
        """``refused``: what the connection reports; a denied publish says nothing else."""
        self._client = client
        self._subject = subject
        self._refused = refused
        self.count = 0

    async def publish(self, recorded: Recorded) -> None:
        """One event, byte for byte, with its number and its time as headers."""
        headers = {SEQUENCE: str(recorded.sequence), STORED_AT: stored_at(recorded.stored_ns)}
        await self._client.publish(f"{self._subject}.{recorded.subject}", recorded.payload, headers=headers)
        self.count += 1

    async def flush(self) -> None:
        """Wait until the server has all of it.

        Raises:
            NotPublishedError: it refused the subject, or does not answer.
        """
        try:
            await self._client.flush(int(_FLUSH_S))
        except (errors.Error, TimeoutError, OSError) as error:
            raise NotPublishedError(f"the bus did not take the events ({type(error).__name__})") from None
        if self._refused:
            raise NotPublishedError(f"the bus refuses {self._subject}: {self._refused[0]}"[:300])
