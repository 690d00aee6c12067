"""``opsbus policy`` as a process: check, explain, and a new policy tried on the record of a running edge."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext

from opsbus import Context, Worker
from opsbus.testing.bus import Bus
from opsbus.testing.plugin import RunWorker
from opsbus_edge.commands import policy_replay

NEW = """\
roles:
  viewer:
    allow: ["demo:read"]
  operator:
    allow:
      - permission: demo:write
        where: {namespace: ["*-staging"]}
"""


FIRST = """\
roles:
  operator: {allow: [demo:write]}
  viewer: {}
"""


@pytest.fixture
async def edge_with_calls(run_edge: Any, run_worker: RunWorker, tmp_path: Path, audit_events: Any) -> Any:
    """The file of the policy in force, after some calls; the platform runs on."""
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write")
    async def change(ctx: Context[None], namespace: str, text: str = "") -> str:
        return namespace

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> str:
        return "seen"

    path = tmp_path / "first.yaml"
    path.write_text(FIRST)
    async with run_edge(policy_file=path) as running, run_worker(worker):
        await running.knows("demo_change", "demo_look")
        for namespace in ("shop", "shop", "shop-staging"):
            assert (await running.call("demo_change", {"namespace": namespace}, role="operator")).result
        large = {"namespace": "shop", "text": "x" * 20_000}
        assert (await running.call("demo_change", large, role="operator")).result
        assert (await running.call("demo_look", role="viewer")).error
        await audit_events(9)
        yield path


async def policy(bus: Bus | None, *words: str) -> tuple[int, str, str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPSBUS_EDGE_")}
    if bus is not None:
        environment |= {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "policy", *words,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 90)
    assert b"Traceback" not in out + err
    return child.returncode or 0, out.decode(), err.decode()


async def test_check_tells_what_is_there_or_the_line(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    code, out, _ = await policy(None, "check", str(path))
    assert code == 0
    assert "2 roles (operator, viewer)" in out
    path.write_text(NEW.replace("permission:", "permision:"))
    code, _, err = await policy(None, "check", str(path))
    assert code == 1
    assert "new.yaml line 6" in err
    assert "did you mean 'permission'" in err
    code, _, err = await policy(None, "check", str(tmp_path / "none.yaml"))
    assert code == 1
    assert "cannot be read" in err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--role", "operator", "--args", '{"namespace": "shop-staging"}'), 0, "yes: new.yaml:6 operator"),
        (("--role", "operator", "--args", '{"namespace": "shop"}'), 3, "no: default deny"),
        (("--role", "operator"), 3, "nothing that the arguments name"),
        (("--role", "viewer", "--role", "operator", "--args", '{"namespace": "a-staging"}'), 0, "approval   confirm"),
        (("--role", "admin"), 2, "has no role 'admin'"),
        (("--role", "operater"), 2, "did you mean operator"),
        (("--role", "operator", "--args", "{"), 2, "is no JSON"),
        (("--role", "operator", "--args", "[]"), 2, "no JSON object"),
    ],
)  # fmt: skip
async def test_explain(tmp_path: Path, words: tuple[str, ...], code: int, told: str) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    given = ("explain", *words, "--tool", "demo_change", "--permission", "demo:write", "--policy", str(path))
    found, out, err = await policy(None, *given)
    assert found == code, out + err
    assert told in out + err


async def test_explain_asks_the_catalogue_for_what_a_tool_needs(bus: Bus, edge_with_calls: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    code, out, _ = await policy(
        bus, "explain", "--role", "operator", "--tool", "demo_change", "--args", '{"namespace": "x-staging"}',
        "--policy", str(path), "--json",
    )  # fmt: skip
    found = json.loads(out)
    assert (code, found["permitted"], found["permission"]) == (0, True, "demo:write")
    assert found["touches"] == {"namespace": ["x-staging"]}
    code, _, err = await policy(bus, "explain", "--role", "operator", "--tool", "demo_chnge", "--policy", str(path))
    assert code == 2
    assert "did you mean demo_change" in err


async def test_a_new_policy_is_tried_on_what_was_done(bus: Bus, edge_with_calls: Any, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    code, out, err = await policy(bus, "test", str(path), "--since", "now-1h", "--json")
    found = json.loads(out)
    changes = {(one["before"], one["after"], one["tool"], one["touches"]): one["calls"] for one in found["changes"]}
    assert changes == {
        ("permitted", "denied", "demo_change", "namespace shop"): 2,
        ("denied", "permitted", "demo_look", ""): 1,
    }, err
    assert code == 3
    assert found["calls"] == 4
    assert sum(found["undecided"].values()) == 1, "arguments that the record does not hold are not guessed"
    code, out, err = await policy(bus, "test", str(path))
    assert "permitted -> denied  demo_change  operator  2 calls" in out
    assert "was first.yaml:2 operator allow demo:write; would be default deny" in out
    assert "3 would change" in out
    assert "1 could not be decided on again" in err


async def test_what_the_server_has_sent_and_is_not_here_yet_is_read(
    bus: Bus, edge_with_calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = await bus.jetstream("auditor")
    info = JetStreamContext.PushSubscription.consumer_info

    async def all_sent(subscription: Any) -> Any:
        while (found := await info(subscription)).num_pending:
            await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(JetStreamContext.PushSubscription, "consumer_info", all_sent)
    monkeypatch.setattr(JetStreamContext.PushSubscription, "pending_msgs", 0)
    since = datetime.now(UTC) - timedelta(hours=1)
    assert len([event async for event in policy_replay._events(js, since)]) == 9
    assert [event async for event in policy_replay._events(js, datetime.now(UTC))] == []


async def test_what_is_no_event_at_the_end_keeps_nobody_waiting(bus: Bus, edge_with_calls: Any) -> None:
    edge = await bus.jetstream("edge")
    await edge.publish("audit.edge.completed", b"no event")
    since = datetime.now(UTC) - timedelta(hours=1)
    async with asyncio.timeout(policy_replay.ANSWER_WITHIN_S - 5):
        assert len([event async for event in policy_replay._events(await bus.jetstream("auditor"), since)]) == 9


async def test_the_same_policy_changes_nothing(bus: Bus, edge_with_calls: Any) -> None:
    code, out, _ = await policy(bus, "test", str(edge_with_calls))
    assert code == 0, out
    assert "no decision would change" in out


async def test_wrong_words(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(NEW)
    code, _, err = await policy(bus, "test", str(path), "--since", "yesterday")
    assert code == 2
    assert "--since" in err
    code, _, err = await policy(None, "test", str(path), "--data", str(tmp_path))
    assert code != 0
    assert "opsbus up" in err
