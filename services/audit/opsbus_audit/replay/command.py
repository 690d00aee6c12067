"""What ``opsbus audit replay`` does: read, wait until an event is due, write it or publish it."""

import gc
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import typer

from opsbus.commands.output import fail
from opsbus_audit.access import Access, Source, opened, run
from opsbus_audit.ordered import Recorded
from opsbus_audit.reading import Batch, json_of
from opsbus_audit.replay.forms import Form, line_writer
from opsbus_audit.replay.onto_subject import NotPublishedError, Publisher, checked
from opsbus_audit.replay.pace import Pace, speed_of
from opsbus_audit.search import Question
from opsbus_contracts.audit import PlatformStage


def replay(
    question: Question,
    *,
    form: Form,
    speed: str,
    to: str | None,
    follow: bool,
    source: Source,
    database_url: str | None,
    folder: str,
) -> None:
    """Replay what matches to standard output, or onto a subject."""
    try:
        pace = Pace(speed_of(speed))
        subject = checked(to) if to is not None else None
    except ValueError as error:
        fail(str(error), "--speed 1x; --to replay.<service>")
    if follow and source is Source.STORE:
        fail("the store cannot be followed", "leave out --follow, or --from store")

    async def work() -> int:
        access_details = {"what": "replay", "to": subject or form.value, "speed": speed, "follow": follow}
        async with opened(
            PlatformStage.LOG_READ,
            question,
            source=source,
            folder=folder,
            database_url=database_url,
            **access_details,
        ) as access:
            if subject is not None:
                return await _publish(access, question, pace, subject, follow)
            return await write(access, question, pace, form, follow, sys.stdout.buffer, colour=_has_colour())

    try:
        count = run(work())
    except NotPublishedError as error:
        fail(str(error), "an auditor may publish replay.<service>.>; run `opsbus provision` after an update")
    if count == 0:
        typer.echo("nothing matches", err=True)
    elif subject is not None and count is not None:
        typer.echo(f"{count} events replayed onto {subject}.>", err=True)


async def write(
    access: Access, question: Question, pace: Pace, form: Form, follow: bool, out: BinaryIO, *, colour: bool
) -> int:
    """Write what matches; gives the number of lines' events."""
    make = line_writer(form, colour=colour)
    # Nothing here refers to itself, and looking for what does takes a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000)
    count = 0
    async for batch in access.events(question, follow=follow):
        if pace.waits:
            for recorded in batch:
                await pace.wait(recorded)
                out.write(make(recorded, json_of(recorded.payload)))
                out.flush()
        elif batch:
            out.write(_lines(make, batch))
            out.flush()
        count += len(batch)
    return count


def _lines(make: Callable[[Recorded, Any], bytes], batch: Batch) -> bytes:
    return b"".join([make(recorded, json_of(recorded.payload)) for recorded in batch])


async def _publish(access: Access, question: Question, pace: Pace, subject: str, follow: bool) -> int:
    publisher = Publisher(access.client, subject, access.refused)
    async for batch in access.events(question, follow=follow):
        for recorded in batch:
            if pace.waits:
                await pace.wait(recorded)
            await publisher.publish(recorded)
            if pace.waits or publisher.count == 1:
                await publisher.flush()
        await publisher.flush()
    return publisher.count


def _has_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
