"""Nothing that was answered is missing in the record, and nothing is in it twice: edge, audit worker, nats-server and,
of three servers, the leader of the stream are killed at random moments under load, twenty rounds."""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from record_estate import Estate, estate
from sqlalchemy import select

from opsbus_audit import tables
from opsbus_audit.sources import missing
from opsbus_audit.store import AuditStore
from opsbus_contracts.audit import ENDS

_ends = frozenset(stage.value for stage in ENDS)
CLIENTS = 6
PAUSE_S = 0.02
"""Of a client between two calls: the disk is shared with other tests."""


class Load:
    """Clients that call all the time, and remember every answer."""

    def __init__(self, platform: Estate) -> None:
        self._url = f"http://127.0.0.1:{platform.edge_port}/api/v1/tools"
        self._headers = {"authorization": f"Bearer {platform.token}"}
        self.answered: dict[str, int] = {}
        """HTTP status by call."""
        self.executed: set[str] = set()
        """Calls whose result came."""
        self.cut_off = 0
        """Requests that ended without an answer."""
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def goes_on(self, results: int, timeout_s: float = 60.0) -> None:
        """Until so many more calls have had a result."""
        wanted = len(self.executed) + results
        async with asyncio.timeout(timeout_s):
            while len(self.executed) < wanted:
                self._more.clear()
                await self._more.wait()

    async def _client(self, number: int) -> None:
        tool = "demo_change" if number % 3 == 0 else "demo_look"
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            while True:
                try:
                    async with session.post(f"{self._url}/{tool}/execute", json={}) as answer:
                        body = await answer.read()
                        self._remember(answer, body)
                    await asyncio.sleep(PAUSE_S)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    self.cut_off += 1
                    await asyncio.sleep(0.05)

    def _remember(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        call = answer.headers.get("opsbus-call")
        if call is None:
            return
        self.answered[call] = answer.status
        if answer.status == 200:
            assert json.loads(body)["structuredContent"]["call"] == call
            self.executed.add(call)
            self._more.set()


async def settled(platform: Estate) -> list[Any]:
    """The stream's messages that are stored, when the edge has given all that it has and the store has taken it."""
    await platform.edge.stop()
    # What a killed edge left the next took over; what the last one could not send the next takes over now.
    await platform.edge.start()
    await platform.edge.stop()
    async with platform.jetstream() as js, asyncio.timeout(120):
        while True:
            state = (await js.stream_info("AUDIT")).state
            consumer = await js.consumer_info("AUDIT", "audit-store")
            if consumer.ack_floor.stream_seq >= state.last_seq and not consumer.num_pending:
                break
            await asyncio.sleep(0.1)
        # It writes events too: of those that come after this moment none is looked for.
        await platform.audit.stop()
        floor = (await js.consumer_info("AUDIT", "audit-store")).ack_floor.stream_seq
        return [await js.get_msg("AUDIT", seq=number) for number in range(1, floor + 1)]


async def examined(platform: Estate, load: Load) -> str:
    """Checks the record against what the clients saw; returns the counts."""
    messages = await settled(platform)
    store = AuditStore(platform.database_url)
    columns = (tables.event.c.sequence, tables.event.c.payload, tables.event.c.duplicate_of)
    async with store.engine.connect() as connection:
        rows = (await connection.execute(select(*columns).order_by(tables.event.c.sequence))).all()
    gone = await missing(store.engine)
    await store.close()

    assert [row.sequence for row in rows] == list(range(1, len(messages) + 1)), "every message of the stream, once"
    assert [row.payload for row in rows] == [message.data for message in messages]
    assert [row.sequence for row in rows if row.duplicate_of is not None] == [], "no event is in it twice"
    events = [json.loads(row.payload) for row in rows]
    assert len({event["id"] for event in events}) == len(events)
    assert gone == [], "no number of any source is missing"

    stages: dict[str, list[str]] = {}
    for event in events:
        stages.setdefault(event["data"]["call"], []).append(event["data"]["stage"])
    unrecorded = [call for call in load.answered if not _ends & set(stages.get(call, ()))]
    assert unrecorded == [], f"of {len(load.answered)} answered calls"
    not_announced = [call for call in load.executed if "requested" not in stages[call]]
    assert not_announced == []
    begun = {line.split()[1] for line in (platform.folder / "diary").read_text().splitlines() if line.endswith("begin")}
    assert begun - stages.keys() == set(), "nothing was done that is not in the record"
    ended = Counter(stage for steps in stages.values() for stage in steps if stage in _ends)
    assert max(sum(stage in _ends for stage in steps) for steps in stages.values()) == 1
    statuses = dict(sorted(Counter(load.answered.values()).items()))
    return (
        f"{len(load.answered)} calls answered {statuses}, {load.cut_off} requests cut off; "
        f"{len(events)} events in stream and store, once each; ends {dict(ended)}"
    )


async def kill_edge(platform: Estate) -> None:
    await platform.edge.kill()
    await platform.edge.start()


async def kill_audit(platform: Estate) -> None:
    await platform.audit.kill()
    await platform.audit.start()


async def kill_server(platform: Estate) -> None:
    server = platform.servers[0]
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def kill_leader(platform: Estate) -> None:
    server = await platform.leader()
    await asyncio.to_thread(server.kill)
    await platform.leader()
    await asyncio.to_thread(server.start)


Kill = Callable[[Estate], Awaitable[None]]


async def rounds(folder: Path, servers: int, kills: list[Kill], capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("OPSBUS_TEST_SEED", random.randrange(1 << 32)))
    dice = random.Random(seed)
    dice.shuffle(kills)
    async with estate(folder, servers) as platform:
        load = Load(platform)
        load.start()
        try:
            for kill in kills:
                await load.goes_on(20)
                await asyncio.sleep(dice.random() * 0.3)  # a moment that nothing else decides
                await kill(platform)
            await load.goes_on(20)
        finally:
            await load.stop()
        counts = await examined(platform, load)
    names = Counter(kill.__name__ for kill in kills)
    with capsys.disabled():
        print(f"\n  {len(kills)} rounds {dict(names)}, seed {seed}: {counts}")


@pytest.mark.timeout(600)  # some twenty starts of processes, one after the other
async def test_fifteen_rounds_with_one_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await rounds(tmp_path, 1, [kill_edge, kill_audit, kill_server] * 5, capsys)


@pytest.mark.timeout(600)
async def test_five_rounds_with_the_leader_of_three_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await rounds(tmp_path, 3, [kill_leader, kill_leader, kill_leader, kill_edge, kill_audit], capsys)
