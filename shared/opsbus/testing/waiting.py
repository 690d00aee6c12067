"""Waiting for what has no event, in tests: a condition that must come true within a bound."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], within_s: float = 30.0, every_s: float = 0.01) -> Any:
    """The condition's first true value; it may be a coroutine function.

    Raises:
        AssertionError: it did not come true in time.
    """
    ends = asyncio.get_running_loop().time() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > ends:
            raise AssertionError(f"not within {within_s} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(every_s)
