"""API keys: made, listed, rotated and revoked by ``opsbus keys``; taken by every edge, and at once by none."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from typer.testing import CliRunner

from opsbus import apikeys
from opsbus.cli import app
from opsbus.testing.bus import Bus
from opsbus_contracts.access import ApiKey
from opsbus_edge.gates import key_use

FORM = re.compile(r"opsbus_[a-z0-9]{12}_[0-9a-f]{64}")


class Keeper:
    """``opsbus keys`` against the bus of the test."""

    def __init__(self, bus: Bus) -> None:
        self._environment = {
            "NATS_URL": bus.url,
            "OPSBUS_NATS_SEED_FILE": str(bus.credentials("keeper")),
            "OPSBUS_CONFIG": None,
        }

    async def __call__(self, *arguments: str, code: int = 0) -> Any:
        def run() -> Any:
            return CliRunner().invoke(app, ["keys", *arguments], env=self._environment)

        result = await asyncio.to_thread(run)
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    async def create(self, *more: str, owner: str = "ci@shop.example", role: str = "viewer") -> str:
        result = await self("create", "--owner", owner, "--role", role, *more)
        assert FORM.fullmatch(result.stdout.strip()), result.stdout
        return result.stdout.strip()

    async def list(self) -> list[dict[str, Any]]:
        return json.loads((await self("list", "--json")).stdout)


@pytest.fixture
def keeper(bus: Bus) -> Keeper:
    return Keeper(bus)


async def ask(running: Any, key: str, header: str = "authorization") -> int:
    value = f"Bearer {key}" if header == "authorization" else key
    return (await running.http.get("/api/v1/tools", headers={header: value})).status_code


async def becomes(running: Any, key: str, wanted: int) -> float:
    """Seconds until the edge answers so."""
    began = time.perf_counter()
    async with asyncio.timeout(30):
        while await ask(running, key) != wanted:
            await asyncio.sleep(0.002)
    return time.perf_counter() - began


@pytest.fixture
async def three(run_edge: Any) -> AsyncIterator[list[Any]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(run_edge()) for _ in range(3)]


async def test_a_key_opens_every_edge_and_its_revocation_closes_them(three, keeper, audit_events) -> None:
    key = await keeper.create("--description", "nightly")
    id = key.split("_")[1]
    for running in three:
        await becomes(running, key, 200)
        assert await ask(running, key, "x-api-key") == 200
    revoking = asyncio.create_task(keeper("revoke", id, "--reason", "leaked in a pipeline"))
    watched = [asyncio.create_task(becomes(running, key, 401)) for running in three]
    await revoking
    done = time.perf_counter()
    await asyncio.gather(*watched)
    late = time.perf_counter() - done
    print(f"\nrevoked at three edges {max(late, 0) * 1000:.0f} ms after 'opsbus keys revoke' had ended")
    assert late < 30, "usually a few milliseconds; promised within a second"
    refused = await three[0].http.get("/api/v1/tools", headers={"x-api-key": key})
    assert refused.json()["error"]["message"] == "the API key is revoked"
    (one,) = await keeper.list()
    assert (one["state"], one["owner"], one["roles"]) == ("revoked", "ci@shop.example", ["viewer"])
    changed = [event for event in await audit_events(2) if event["subject"] == "audit.keeper.key_changed"]
    assert [event["details"]["action"] for event in changed] == ["create", "revoke"]
    assert changed[1]["reason"] == "leaked in a pipeline"
    assert changed[1]["target"] == f"api_key/{id}"
    assert all(event["actor"].endswith("@os") for event in changed)
    secret = key.split("_")[2]
    assert all(secret.encode() not in event["raw"] for event in await audit_events())


async def test_what_is_stored_and_listed_holds_no_secret(bus, keeper) -> None:
    key = await keeper.create("--expires", "12h")
    id, secret = key.split("_")[1:]
    stored = (await (await (await bus.jetstream()).key_value("APIKEYS")).get(id)).value
    record = ApiKey.model_validate_json(stored)
    assert secret.encode() not in stored
    assert record.digest == apikeys.digest(secret)
    assert 0 < record.expires - time.time() <= 12 * 3600
    for arguments in (["list"], ["list", "--json"]):
        shown = (await keeper(*arguments)).stdout
        assert id in shown
        assert secret not in shown
        assert record.digest not in shown


async def test_rotation_leaves_the_grace_and_no_more(run_edge, keeper) -> None:
    async with run_edge() as running:
        first = await keeper.create()
        id = first.split("_")[1]
        await becomes(running, first, 200)
        second = (await keeper("rotate", id, "--grace", "1h")).stdout.strip()
        await becomes(running, second, 200)
        assert await ask(running, first) == 200, "the secret before is within its grace"
        third = (await keeper("rotate", id, "--grace", "0s")).stdout.strip()
        await becomes(running, third, 200)
        assert await ask(running, second) == 401
        assert await ask(running, first) == 401, "only one secret before is good"
        fourth = (await keeper("rotate", id, "--grace", "2s")).stdout.strip()
        await becomes(running, fourth, 200)
        await becomes(running, third, 401)
        assert await ask(running, fourth) == 200


async def test_the_last_use_is_written_once_a_minute(run_edge, keeper, bus) -> None:
    key = await keeper.create()
    id = key.split("_")[1]
    assert (await keeper.list())[0]["last_used"] is None
    async with run_edge() as one, run_edge() as two:
        for running in (one, two):
            await becomes(running, key, 200)
            for _ in range(20):
                assert await ask(running, key) == 200
        async with asyncio.timeout(30):
            while (found := (await keeper.list())[0])["last_used"] is None:
                await asyncio.sleep(0.05)
    assert found["last_address"] == "127.0.0.1"
    js = await bus.jetstream()
    written = (await js.stream_info("KV_KEYUSE")).state.last_seq
    assert written == 1, "two edges and forty uses in one minute"
    assert id in (await js.stream_info("KV_KEYUSE", subjects_filter=">")).state.subjects.popitem()[0]
    assert key_use.EVERY_S == 60


async def test_keys_that_do_not_hold(run_edge, keeper, bus) -> None:
    key = await keeper.create()
    _, id, secret = key.split("_")
    bucket = await (await bus.jetstream()).key_value("APIKEYS")
    record = ApiKey.model_validate_json((await bucket.get(id)).value)
    expired = record.model_copy(update={"id": "e" * 12, "expires": int(time.time()) - 1})
    wandered = record.model_copy(update={"id": "other0000000"})
    await bucket.put("e" * 12, expired.model_dump_json().encode())
    await bucket.put("w" * 12, wandered.model_dump_json().encode())
    await bucket.put("d" * 12, b'{"id": "dddddddddddd", "owner": "root"}')
    async with run_edge() as running:
        await becomes(running, key, 200)
        wrong = {
            "another secret": f"opsbus_{id}_{'0' * 64}",
            "an unknown id": f"opsbus_{'z' * 12}_{secret}",
            "the digest": f"opsbus_{id}_{record.digest}",
            "upper case": key.upper(),
            "a digit short": key[:-1],
            "a digit long": key + "0",
            "unicode digits": f"opsbus_{id}_{secret[:-1]}\u0661".encode().decode("latin-1"),
            "no secret": f"opsbus_{id}_",
            "the id alone": f"opsbus_{id}",
            "a wildcard": f"opsbus_*_{secret}",
            "expired": f"opsbus_{'e' * 12}_{secret}",
            "a record of another id": f"opsbus_{'w' * 12}_{secret}",
            "a damaged record": f"opsbus_{'d' * 12}_{secret}",
            "previous, empty": f"opsbus_{id}_{'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}",
        }
        for kind, value in wrong.items():
            for headers in ({"authorization": f"Bearer {value}"}, {"x-api-key": value}):
                raw = {name: text.encode("latin-1") for name, text in headers.items()}
                answer = await running.http.get("/api/v1/tools", headers=raw)
                assert answer.status_code == 401, kind
                assert secret not in answer.text, kind
        both = {"x-api-key": key, "authorization": f"Bearer {running.keys.token()}"}
        assert (await running.http.get("/api/v1/tools", headers=both)).status_code == 401
        same = {"x-api-key": key, "authorization": f"Bearer {key}"}
        assert (await running.http.get("/api/v1/tools", headers=same)).status_code == 200
        twice = [("x-api-key", key), ("x-api-key", "x")]
        assert (await running.http.get("/api/v1/tools", headers=twice)).status_code == 400
        empty = await running.http.get("/api/v1/tools", headers={"x-api-key": ""})
        assert empty.status_code == 401


async def test_an_edge_that_lost_the_bus_believes_no_key(run_edge, keeper, bus) -> None:
    key = await keeper.create()
    async with run_edge(api_keys_stale_s=2) as running:
        await becomes(running, key, 200)
        bus.server.stop()
        try:
            took = await becomes(running, key, 503)
            print(f"\nwithout the bus a key was believed for {took:.1f} s; the bound is 2 s")
            refused = await running.http.get("/api/v1/tools", headers={"x-api-key": key})
            assert refused.json()["error"]["code"] == "unavailable"
            assert int(refused.headers["retry-after"]) >= 1
            assert await ask(running, running.keys.token()) == 200, "a token is no API key"
        finally:
            bus.server.start()
        await becomes(running, key, 200)
        await keeper("revoke", key.split("_")[1], "--reason", "test")
        await becomes(running, key, 401)


async def test_changes_made_while_an_edge_was_away_hold_when_it_is_back(run_edge, keeper, bus) -> None:
    gone, kept = await keeper.create(), await keeper.create()
    async with run_edge(api_keys_stale_s=2) as running:
        for key in (gone, kept):
            await becomes(running, key, 200)
        bucket = await (await bus.jetstream()).key_value("APIKEYS")
        await bucket.delete(gone.split("_")[1])
        await becomes(running, gone, 401)
        bus.server.restart()
        async with asyncio.timeout(30):
            # Until it has heard from the bus again it may know nothing of either key.
            while (codes := [await ask(running, key) for key in (kept, gone)]) != [200, 401]:
                assert codes[1] in (401, 503), codes
                await asyncio.sleep(0.02)


async def test_the_caller_of_a_key_is_its_owner_with_its_roles(running, keeper) -> None:
    key = await keeper.create(owner="deployer@shop.example", role="admin")
    await becomes(running, key, 200)
    caller = await running.edge.authenticate({"x-api-key": key})
    assert (caller.sub, caller.roles, caller.auth) == ("deployer@shop.example", ("admin",), "api_key")
    assert caller.key == key.split("_")[1]
    assert (await running.http.get("/api/v1/catalog/services", headers={"x-api-key": key})).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--owner", "a", "--role", "viewer", "--expires", "soon"], "is no time"),
        (["create", "--owner", "a", "--role", "viewer", "--expires", "2020-01-01"], "is over already"),
        (["create", "--owner", "", "--role", "viewer"], "owner"),
        (["create", "--owner", "a\nb", "--role", "viewer"], "owner"),
        (["rotate", "x" * 12], "there is no key"),
        (["rotate", "x" * 12, "--grace", "year"], "is no span"),
        (["rotate", "x" * 12, "--grace", "9999d"], "is too long"),
        (["revoke", "x" * 12, "--reason", "r"], "there is no key"),
        (["revoke", ">", "--reason", "r"], "there is no key"),
    ],
)
async def test_what_the_keeper_refuses(keeper, arguments: list[str], said: str) -> None:
    result = await keeper(*arguments, code=1)
    assert said in result.stderr
    assert "Traceback" not in result.output


async def test_a_revoked_key_is_not_rotated_back_to_life(keeper) -> None:
    id = (await keeper.create()).split("_")[1]
    await keeper("revoke", id, "--reason", "gone")
    assert "is revoked" in (await keeper("rotate", id, code=1)).stderr
    assert "revoked already" in (await keeper("revoke", id, "--reason", "again", code=1)).stderr


async def test_without_the_record_no_key_is_made_but_one_is_revoked(keeper, bus) -> None:
    id = (await keeper.create()).split("_")[1]
    js = await bus.jetstream()
    await js.delete_stream("AUDIT")
    refused = await keeper("create", "--owner", "a", "--role", "viewer", code=1)
    assert "the record did not take" in refused.stderr
    assert not FORM.search(refused.output)
    await keeper("revoke", id, "--reason", "must hold", code=1)
    found = await keeper.list()
    assert [one["state"] for one in found] == ["revoked"]


async def test_only_the_keeper_changes_keys(bus) -> None:
    js = await bus.jetstream("edge")
    bus.errors.clear()
    with pytest.raises(Exception, match=r"timeout|Timeout|responders"):
        await js.publish("$KV.APIKEYS.aaaaaaaaaaaa", b"{}", timeout=1)
    async with asyncio.timeout(30):
        while not any("ermissions violation" in str(error) for error in bus.errors):
            await asyncio.sleep(0.02)
    assert os.environ.get("OPSBUS_CONFIG") is None
