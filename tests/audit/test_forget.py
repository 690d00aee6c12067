"""Personal data under keys: found by name while the key is there, forgotten when it is destroyed, proved all along."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from opsbus.personal import Persons, sealing_context
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_audit.app import build

pytestmark = pytest.mark.timeout(300)  # commands as processes of their own, one after the other

ADA = "ada@shop.example"


async def write(bus: Bus, edge: Any, who: str, tool: str) -> str:
    """An event as an edge writes it with ``audit_personal: encrypted``; gives the pseudonym."""
    person = await Persons((await bus.connect("edge")).jetstream()).of(who)
    call = os.urandom(16).hex()
    told = {"actor": who, "address": "10.1.2.3", "client": "inspector"}
    sealed = person.seal(told, sealing_context(call, "completed"))
    await edge.write("completed", call=call, actor=person.pseudonym, personal=sealed, tool=tool)
    return person.pseudonym


async def audit(bus: Bus, *words: str, identity: str = "auditor", url: str = "") -> tuple[int, str, str]:
    environment = {**os.environ, "NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials(identity))}
    environment |= {"OPSBUS_AUDIT_DATABASE_URL": url} if url else {}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "audit", *words,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 60)
    assert b"Traceback" not in out + err
    return child.returncode or 0, out.decode(), err.decode()


async def found(caller: Caller, count: int, **arguments: Any) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            result = (await caller.call("audit", "search", arguments)).structured
            if result["page"]["total"] == count:
                return dict(result)
            await asyncio.sleep(0.05)


async def test_a_name_finds_its_events_until_the_person_is_forgotten(
    bus: Bus, run_worker: Any, caller: Caller, edge: Any, database_url: str
) -> None:
    async with run_worker(build(), database_url=database_url):
        pseudonym = await write(bus, edge, ADA, "k8s_get_pods")
        await write(bus, edge, "bob@shop.example", "cmdb_query_assets")
        await edge.write("completed", actor=ADA, tool="before_it_was_encrypted")
        assert (await found(caller, 3))["page"]["total"] == 3
        result = await found(caller, 2, actor=ADA)
        assert {(item["actor"], item["tool"]) for item in result["items"]} == {
            (ADA, "k8s_get_pods"), (ADA, "before_it_was_encrypted"),
        }  # fmt: skip
        assert "personal" not in json.dumps(result["items"])
        code, out, err = await audit(bus, "search", "--actor", ADA, "--json", url=database_url)
        assert (code, len(out.splitlines())) == (0, 2), err
        assert pseudonym not in out

        code, out, err = await audit(bus, "forget", ADA, "--reason", "request 4711", "--yes", identity="keeper")
        assert code == 0, err
        assert pseudonym in out
        result = await found(caller, 1, actor=ADA)
        assert result["items"][0]["tool"] == "before_it_was_encrypted"
        every = await found(caller, 6)
        readings = [item for item in every["items"] if item["stage"] == "log_read"]
        assert len(readings) == 2  # the search above, begun and ended
        assert ADA not in json.dumps(readings)
        assert pseudonym in json.dumps(readings)
        sealed = next(item for item in every["items"] if item["tool"] == "k8s_get_pods")
        assert (sealed["actor"], sealed["address"], sealed["client"]) == (pseudonym, "", "")
        assert "forgotten" in every["warnings"][0]
        assert {item["actor"] for item in every["items"] if item["tool"] == "cmdb_query_assets"} == {"bob@shop.example"}
        (event,) = [item for item in every["items"] if item["stage"] == "forgotten"]
        assert (event["target"], event["reason"]) == (pseudonym, "request 4711")
        assert ADA not in json.dumps(event)
    code, out, err = await audit(bus, "search", "--tool", "k8s_get_pods", "--json", url=database_url)
    assert json.loads(out)["actor"] == pseudonym
    assert "forgotten" in err


@pytest.mark.parametrize("who", ["nobody@shop.example", "Ada@shop.example"])
async def test_who_has_no_key_cannot_be_forgotten(bus: Bus, edge: Any, who: str) -> None:
    await write(bus, edge, ADA, "k8s_get_pods")
    code, _, err = await audit(bus, "forget", who, "--reason", "r", "--yes", identity="keeper")
    assert code != 0
    assert f"no key for {who}" in err
    assert (await Persons((await bus.connect("auditor")).jetstream()).find(ADA)) is not None


async def test_only_the_keeper_forgets(bus: Bus, edge: Any) -> None:
    await write(bus, edge, ADA, "k8s_get_pods")
    code, _, err = await audit(bus, "forget", ADA, "--reason", "r", "--yes", identity="auditor")
    assert code != 0
    assert err.strip()
    assert (await Persons((await bus.connect("auditor")).jetstream()).find(ADA)) is not None
