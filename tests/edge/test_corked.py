"""The head of an answer goes out with its body, and never waits for one that does not come."""

import asyncio
from typing import Any

import pytest

from opsbus_edge.asgi.corked import Corked

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Transport:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 7

    def __getattr__(self, name: str) -> Any:
        return lambda: self.told.append(name)


@pytest.fixture
async def corked() -> tuple[Corked, Transport]:
    transport = Transport()
    return Corked(transport, asyncio.get_running_loop()), transport  # type: ignore[arg-type]


async def test_head_and_body_are_one_write(corked: tuple[Corked, Transport]) -> None:
    cork, transport = corked
    for _ in range(2):
        cork.write(HEAD)
        cork.write(b"ok")
    await asyncio.sleep(0)
    assert transport.told == [HEAD + b"ok"] * 2


async def test_a_head_alone_goes_out_in_the_same_turn_and_what_follows_is_not_held(
    corked: tuple[Corked, Transport],
) -> None:
    cork, transport = corked
    cork.write(HEAD)
    await asyncio.sleep(0)
    assert transport.told == [HEAD]
    cork.write(b"data: 1\r\n\r\n")
    assert transport.told == [HEAD, b"data: 1\r\n\r\n"]


async def test_a_large_body_is_not_copied(corked: tuple[Corked, Transport]) -> None:
    cork, transport = corked
    body = b"x" * 100_000
    cork.write(HEAD)
    cork.write(body)
    assert transport.told[0] == HEAD
    assert transport.told[1] is body


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_what_is_held_goes_out_before_the_end(corked: tuple[Corked, Transport], end: str) -> None:
    cork, transport = corked
    cork.write(HEAD)
    getattr(cork, end)()
    await asyncio.sleep(0)
    assert transport.told == [HEAD, end]


async def test_nothing_goes_out_after_an_abort(corked: tuple[Corked, Transport]) -> None:
    cork, transport = corked
    cork.write(HEAD)
    cork.abort()
    await asyncio.sleep(0)
    assert transport.told == ["abort"]


async def test_nothing_goes_out_on_a_connection_that_closes(corked: tuple[Corked, Transport]) -> None:
    cork, transport = corked
    cork.write(HEAD)
    transport.closing = True
    await asyncio.sleep(0)
    assert not transport.told


async def test_the_rest_is_the_transports(corked: tuple[Corked, Transport]) -> None:
    cork, transport = corked
    cork.pause_reading()
    assert transport.told == ["pause_reading"]
    assert cork.get_write_buffer_size() == 7
    assert not cork.is_closing()
