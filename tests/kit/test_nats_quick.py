"""The short ways in and out of nats-py say and hear the same as its own."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from opsbus.nats_quick import QuickClient, header_block, headers_of
from opsbus.testing.bus import Bus
from opsbus.testing.waiting import until

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"])).map(str.strip)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_headers_come_out_as_they_went_in_and_as_nats_py_reads_them(headers: dict[str, str]) -> None:
    block = header_block(headers)
    assert block is not None
    assert headers_of(block) == headers
    assert Client._parse_header_lines(block[len(b"NATS/1.0\r\n") :]) == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"a": "x\r\nb: y"},
        {"a": "x\n"},
        {"a": "\r"},
        {"a b": "x"},
        {"": "x"},
        {"a:": "x"},
        {"ü": "x"},
        {"a\r\nb": "x"},
        {"a": "\ud800"},
    ],
)
def test_what_is_not_proper_is_left_to_nats_py(headers: dict[str, str]) -> None:
    assert header_block(headers) is None


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\na: b\r\n\r\n",
        "NATS/1.0\r\na: ü\r\n\r\n".encode(),
        b"",
        b"x",
    ],
)
def test_a_status_and_what_is_not_ascii_are_left_to_nats_py(block: bytes) -> None:
    assert headers_of(block) is None


async def pair(bus: Bus) -> tuple[QuickClient, list[Msg], str]:
    client = await bus.connect("edge")
    heard: list[Msg] = []
    inbox = client.new_inbox()
    await client.subscribe_directly(f"{inbox}.*", heard.append)
    await client.flush()
    return client, heard, inbox


async def test_messages_keep_their_order_whichever_way_they_go(bus: Bus) -> None:
    client, heard, inbox = await pair(bus)
    for n in range(300):
        if n % 3:
            assert client.publish_now(f"{inbox}.x", str(n).encode(), "", {"N": str(n)})
        else:
            await client.publish(f"{inbox}.x", str(n).encode(), headers={"N": str(n)})
    await until(lambda: len(heard) == 300)
    assert [int(msg.data) for msg in heard] == list(range(300))
    assert [msg.headers for msg in heard] == [{"N": str(n)} for n in range(300)]
    assert {msg.subject for msg in heard} == {f"{inbox}.x"}


async def test_a_message_without_headers_and_one_with_a_status(bus: Bus) -> None:
    client, heard, inbox = await pair(bus)
    await client.publish(f"{inbox}.x", b"plain", reply="a.reply")
    await client.publish("tool.nobody.there", b"", reply=f"{inbox}.y")
    await until(lambda: len(heard) == 2)
    plain, status = sorted(heard, key=lambda msg: msg.subject)
    assert (plain.headers, plain.reply, plain.data) == (None, "a.reply", b"plain")
    assert (status.headers or {})["Status"] == "503"
    assert not status.data


async def test_what_a_taker_raises_is_told_and_reading_goes_on(bus: Bus) -> None:
    client = await bus.connect("edge")
    heard: list[bytes] = []

    def take(msg: Msg) -> None:
        heard.append(msg.data)
        if msg.data == b"bad":
            raise ValueError("cannot take it")

    inbox = client.new_inbox()
    await client.subscribe_directly(inbox, take)
    for body in (b"bad", b"good"):
        await client.publish(inbox, body)
    await until(lambda: heard == [b"bad", b"good"])
    assert [str(error) for error in bus.errors] == ["cannot take it"]
    bus.errors.clear()


async def test_after_unsubscribing_nothing_comes(bus: Bus) -> None:
    client = await bus.connect("edge")
    heard: list[Msg] = []
    inbox = client.new_inbox()
    subscription = await client.subscribe_directly(inbox, heard.append)
    await client.publish(inbox, b"one")
    await until(lambda: len(heard) == 1)
    await subscription.unsubscribe()
    await client.publish(inbox, b"two")
    await client.flush()
    assert len(heard) == 1
    assert not client._takers


async def test_what_nats_py_would_refuse_is_left_to_it(bus: Bus) -> None:
    client = await bus.connect("edge")
    assert not client.publish_now("a", b"x" * (client.max_payload + 1), "", {})
    assert not client.publish_now("a", b"x", "", {"a": "x\r\ny"})
    client._pending_data_size += 10_000_000  # a server that does not read
    assert not client.publish_now("a", b"x", "", {})
    client._pending_data_size -= 10_000_000
    await client.close()
    assert not client.publish_now("a", b"x", "", {})


async def test_it_goes_on_after_the_server_was_away(bus: Bus) -> None:
    client, heard, inbox = await pair(bus)
    await asyncio.to_thread(bus.restart)
    async with asyncio.timeout(30):
        while not heard:
            if client.is_connected and client.publish_now(f"{inbox}.x", b"again", "", {"A": "b"}):
                await client.flush()
            await asyncio.sleep(0.05)
    assert heard[0].headers == {"A": "b"}
