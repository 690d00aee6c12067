"""The attack table: what nobody should send, and what comes of it. Rows: attacks/, a module for each topic.

Every row is answered with its status and code and a line that says what to do, no tool runs, nothing inside shows, and
where the caller is known the record says that it was denied, and why.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.bus import Bus

FOLDER = Path(__file__).parent / "attacks"
TOPICS = ("tokens", "http", "origins", "bodies", "names", "paths", "others")
AT_LEAST = 150
INSIDE = (b"Traceback", b'File "', b"opsbus_edge", b"pydantic", b"orjson", b"uvicorn", b"nats:", b"JSONDecodeError")


def _package() -> None:
    """The folder as the package ``attacks``: tests are no package."""
    if "attacks" not in sys.modules:
        spec = spec_from_file_location("attacks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules["attacks"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["attacks"])


_package()
ATTACKS = [attack for topic in TOPICS for attack in import_module(f"attacks.{topic}").ATTACKS]
model, worlds = import_module("attacks.model"), import_module("attacks.world")


@pytest.fixture(scope="module")
def world(opsbus_server: Bus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One edge for the whole table, behind a proxy; with what belongs to a caller who is not the attacker."""
    opsbus_server.start()
    made = worlds.World(opsbus_server, tmp_path_factory.mktemp("attacked"))
    made.start(
        body_bytes_max=256 * 1024,
        arguments_bytes_max=32 * 1024,
        trusted_proxies=["127.0.0.1"],
        denied_networks=["203.0.113.0/24"],
        body_timeout_s=10,
    )
    try:
        prepare(made)
        yield made
    finally:
        made.stop()


def prepare(world: Any) -> None:
    """A good caller's question, confirmations, session and blob."""
    asked = told(world, model.call("demo_remove", {"name": "web"}))
    world.facts["state"] = asked["result"]["requestState"]
    execute = "/api/v1/tools/demo_scale/execute"
    for fact in ("confirm", "spent"):
        plan = told(world, model.rest(path=execute, body='{"arguments": {"name": "web", "replicas": 5}}'))
        world.facts[fact] = plan["error"]["details"]["confirm"]
    done = told(world, import_module("attacks.others").confirmed(lambda w: w.facts["spent"]))
    assert done["structuredContent"] == {"replicas": 5}
    exported = told(world, model.call("demo_export"))
    world.facts["blob"] = exported["result"]["content"][0]["uri"]
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "good", "version": "1"}},
    }  # fmt: skip
    opened = world.exchange(
        model.mcp(
            body=model.json.dumps(hello), headers={"MCP-Protocol-Version": None, "Mcp-Method": None, "Mcp-Name": None}
        )(world)
    )
    world.facts["session"] = opened[1]["mcp-session-id"]
    assert world.did == ["scale web 5"]
    world.did.clear()


def told(world: Any, send: Any) -> Any:
    """The JSON of an answer."""
    return model.json.loads(world.exchange(send(world))[2])


def test_the_table_is_long_enough_and_names_each_row_once() -> None:
    names = Counter(attack.name for attack in ATTACKS)
    assert [name for name, times in names.items() if times > 1] == []
    print(f"\n{len(ATTACKS)} attacks in {len(TOPICS)} topics")
    assert len(ATTACKS) >= AT_LEAST


@pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS])
def test_attack(world: Any, attack: Any) -> None:
    world.settled()
    world.dispatched.clear()
    world.events.clear()
    world.did.clear()
    outcome = model.Outcome(*world.exchange(attack.send(world)))
    assert outcome.status == attack.status, outcome
    for word in INSIDE:
        assert word not in outcome.body, outcome.body
    if attack.status and attack.code:
        code, message, hint = outcome.error()
        assert code == attack.code, outcome.body
        assert message
        assert hint, "the answer does not say what to do"
        assert attack.says in message
    if attack.status == 401:
        assert outcome.headers["www-authenticate"].startswith("Bearer")
    if attack.denied:
        assert world.until(lambda: any(event["stage"] == "denied" for event in world.events)), world.events
        (event,) = [event for event in world.events if event["stage"] == "denied"]
        assert event["actor"]
        assert event["error"]
        assert event["message"]
    world.settled()
    if not attack.reaches_worker:
        assert world.dispatched == []
        assert not [event for event in world.events if event["stage"] == "requested"]
    assert world.did == []


def test_a_good_request_still_gets_through(world: Any) -> None:
    """The table proves nothing if the edge refuses everything."""
    assert told(world, model.rest())["structuredContent"] == {"text": "x", "number": 0}
    assert told(world, model.call("demo_echo", {"text": "y"}))["result"]["structuredContent"]["text"] == "y"
    assert world.did == ["echo", "echo"]
    world.did.clear()
