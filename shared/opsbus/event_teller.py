"""Events told outside of a call, each under an id made of the fact: whoever tells the same again tells nothing.

In a call there is ``ctx.emit``. Reading events: ``event_reader.py``.
"""

import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from nats import errors
from nats.aio.client import Client
from nats.js.errors import APIError, NoStreamResponseError

from opsbus.events import source
from opsbus_contracts import Event, Header
from opsbus_contracts.subjects import event_subject

TIMEOUT_S = 5.0


class Told(NamedTuple):
    """Where an event lies in the stream."""

    sequence: int
    already: bool
    """Somebody told it before, within the time for which the stream remembers ids."""


class NotToldError(Exception):
    """It is not known to be stored, in one line."""


class Teller:
    """Tells what a service sees.

    Args:
        nc: A connection of the service's own identity.
        instance: Names this process in the events' source.
    """

    def __init__(self, nc: Client, service: str, instance: str = "") -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._service = service
        self._source = source(service, instance or f"{service}-{secrets.token_hex(4)}")

    async def tell(
        self, kind: str, data: dict[str, Any], subject: str | None = None, fact: tuple[object, ...] | None = None
    ) -> Told:
        """Store ``event.<service>.<kind>``.

        Args:
            fact: What makes it the same event whoever tells it; none: it is always another one.

        Raises:
            NotToldError: it is not known to be stored.
        """
        name = fact_id(kind, *fact) if fact is not None else secrets.token_hex(16)
        event = Event(
            id=name,
            source=self._source,
            type=f"opsbus.event.v1.{kind}",
            subject=subject,
            time=datetime.now(UTC),
            data=data,
        )
        body = event.model_dump_json(exclude_none=True).encode()
        try:
            ack = await self._js.publish(
                event_subject(self._service, kind), body, timeout=TIMEOUT_S, headers={Header.MSG_ID.value: name}
            )
        except NoStreamResponseError:
            raise NotToldError("there is no stream EVENTS: run `opsbus provision`") from None
        except (errors.Error, APIError, OSError, TimeoutError) as error:
            raise NotToldError(f"{type(error).__name__}: {error}"[:200]) from error
        return Told(ack.seq, bool(ack.duplicate))

    async def resource_updated(self, uri: str) -> None:
        """Tell the subscribers of a resource that it changed.

        Raises:
            NotToldError: it is not known to be stored.
        """
        await self.tell("resource_updated", {"uri": uri}, uri)


def fact_id(*fact: object) -> str:
    """The same for the same fact, in every process."""
    return sha256("\n".join(map(str, fact)).encode()).hexdigest()[:32]
