"""Ending background tasks. Starting them is everybody's own matter."""

import asyncio
from typing import Any

_AGAIN_S = 2.0
"""A task that goes on is cancelled again after this long; its clean-up has that time. Seconds."""


async def end(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel tasks and wait until each has ended. What they raise is not raised here.

    Once is not enough: before Python 3.12 ``asyncio.wait_for``, on which nats-py's ``next_msg`` and requests rest,
    swallows a cancellation that arrives together with its result, and the loop around it goes on for ever.
    """
    running = {task for task in tasks if task is not None and not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
    for ended in tasks:
        if ended is not None and not ended.cancelled():
            ended.exception()  # seen, so that the loop does not complain of it later
