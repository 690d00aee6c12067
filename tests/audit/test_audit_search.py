"""``audit_search`` over the bus, and ``opsbus audit`` at the terminal: what is found, paged, refused."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_audit.app import build

pytestmark = pytest.mark.timeout(300)  # commands as processes of their own, one after the other


async def found(caller: Caller, count: int, **arguments: Any) -> dict[str, Any]:
    """The search's result once the store has so many events."""
    async with asyncio.timeout(60):
        while True:
            result = (await caller.call("audit", "search", arguments)).structured
            if result["page"]["total"] == count:
                return dict(result)
            await asyncio.sleep(0.05)


async def command(bus: Bus, *words: str, url: str = "") -> tuple[int, str, str]:
    """``opsbus audit ...`` as a process of its own."""
    environment = {**os.environ, "NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    environment |= {"OPSBUS_AUDIT_DATABASE_URL": url} if url else {}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "opsbus", "audit", *words,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("arguments", "tools"),
    [
        ({"actor": "eve"}, ["cmdb_query_assets"]),
        ({"tool": "k8s_scale_deployment"}, ["k8s_scale_deployment", "k8s_scale_deployment"]),
        ({"stage": "denied"}, ["cmdb_query_assets"]),
        ({"outcome": "success"}, ["k8s_scale_deployment"]),
        ({"outcome": "denied", "actor": "eve"}, ["cmdb_query_assets"]),
        ({"text": "sale"}, ["k8s_scale_deployment"]),
        ({"since": "now-1h", "until": "now", "service": "cmdb"}, ["cmdb_query_assets"]),
        ({"until": "now-1h"}, []),
        ({"actor": "nobody"}, []),
    ],
)
async def test_filters(
    run_worker: Any, caller: Caller, edge: Any, database_url: str, arguments: dict[str, Any], tools: list[str]
) -> None:
    async with run_worker(build(), database_url=database_url):
        call = {"call": "a" * 32, "tool": "k8s_scale_deployment", "service": "k8s"}
        await edge.write("requested", **call, reason="autumn sale")
        await edge.write("completed", **call)
        await edge.write("denied", tool="cmdb_query_assets", service="cmdb", actor="eve")
        await found(caller, 3)
        result = await found(caller, len(tools), **arguments)
    assert [entry["tool"] for entry in result["items"]] == tools


async def test_pages_hold_every_event_once_newest_first(
    run_worker: Any, caller: Caller, edge: Any, tmp_path: Any
) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/audit.sqlite3"):
        await edge.many(45)
        await found(caller, 45)
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = (await caller.call("audit", "search", {"limit": 20, "cursor": cursor})).structured
            seen += [entry["call"] for entry in page["items"]]
            cursor = page["page"]["next_cursor"]
            if cursor is None:
                break
    assert seen == [f"{number:032x}" for number in reversed(range(45))]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "now", "until": "now-1h"}, "since is after until"),
        ({"limit": 0}, "limit"),
        ({"stage": "finished"}, "stage"),
        ({"outcome": "fine"}, "outcome"),
        ({"cursor": "made up"}, "cursor"),
        ({"who": "ada"}, "who"),
    ],
)
async def test_wrong_questions_are_refused(
    run_worker: Any, caller: Caller, tmp_path: Any, arguments: dict[str, Any], words: str
) -> None:
    async with run_worker(build(), database_url=f"sqlite:///{tmp_path}/audit.sqlite3"):
        error = (await caller.call("audit", "search", arguments)).error
    assert error.code == "invalid_arguments"
    assert words in error.message


async def test_search_at_the_terminal(bus: Bus, run_worker: Any, caller: Caller, edge: Any, database_url: str) -> None:
    async with run_worker(build(), database_url=database_url):
        await edge.write("completed", tool="k8s_get_pods", actor="ada")
        await edge.write("denied", tool="k8s_scale_deployment", actor="eve")
        await found(caller, 2)
        code, out, _ = await command(bus, "search", "--actor", "eve", "--json", url=database_url)
        assert code == 0
        assert [json.loads(line)["tool"] for line in out.splitlines()] == ["k8s_scale_deployment"]
        code, out, err = await command(bus, "search", "--actor", "nobody", url=database_url)
        assert (code, out) == (0, "")
        assert "nothing matches" in err


async def test_tail_reads_the_stream_to_its_end(bus: Bus, edge: Any) -> None:
    await edge.write("requested", tool="k8s_scale_deployment", actor="ada", reason="autumn sale")
    await edge.write("completed", tool="k8s_get_pods", actor="bob")
    code, out, err = await command(bus, "tail", "--since", "now-1h", "--no-follow", "--actor", "ada")
    assert code == 0, err
    assert len(out.splitlines()) == 1
    assert "k8s_scale_deployment" in out
    assert "autumn sale" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("search", "--stage", "finished"), "--stage 'finished' is not known"),
        (("search", "--since", "yesterday", "--database-url", "sqlite:///x"), "--since"),
        (("search", "--database-url", "sqlite:////nowhere/at/all.sqlite3"), "cannot be read"),
        (("search", "--database-url", "mysql://x/y"), "mysql"),
        (("tail", "--outcome-of", "x"), "No such option"),
    ],
)
async def test_wrong_words_end_in_a_hint_and_no_traceback(bus: Bus, words: tuple[str, ...], told: str) -> None:
    code, out, err = await command(bus, *words)
    assert code != 0
    assert told in err
    assert "Traceback" not in out + err


async def test_a_call_is_shown_step_by_step(run_worker: Any, caller: Caller, edge: Any, database_url: str) -> None:
    async with run_worker(build(), database_url=database_url):
        call = {"call": "a" * 32, "tool": "k8s_scale_deployment", "service": "k8s", "mutating": True}
        for stage in ("requested", "input_required", "approved", "completed"):
            await edge.write(stage, **call)
        await edge.write("completed", call="b" * 32)
        await found(caller, 5)
        shown = (await caller.call("audit", "get_call", {"call": "a" * 32})).structured
        assert [entry["stage"] for entry in shown["items"]] == ["requested", "input_required", "approved", "completed"]
        assert (shown["outcome"], shown["actor"], shown["page"]["total"]) == ("success", "ada", 4)
        assert shown["ended_at"] >= shown["started_at"]
        first = (await caller.call("audit", "get_call", {"call": "a" * 32, "limit": 3})).structured
        assert first["outcome"] is None
        rest = {"call": "a" * 32, "cursor": first["page"]["next_cursor"]}
        assert [item["stage"] for item in (await caller.call("audit", "get_call", rest)).structured["items"]] == [
            "completed"
        ]
        missing = (await caller.call("audit", "get_call", {"call": "c" * 32})).error
    assert missing.code == "not_found"


async def test_who_did_what_to_which_system(run_worker: Any, caller: Caller, edge: Any, database_url: str) -> None:
    async with run_worker(build(), database_url=database_url):
        for number in range(3):
            call = {"call": f"{number:032x}", "tool": "k8s_scale_deployment", "service": "k8s", "mutating": True}
            await edge.write("requested", **call)
            await edge.write("completed", **call)
        await edge.write("denied", tool="cmdb_query_assets", service="cmdb", actor="eve")
        await found(caller, 7)
        summary = (await caller.call("audit", "summarize", {})).structured
        lines = [(i["actor"], i["service"], i["tool"], i["outcome"], i["calls"], i["writes"]) for i in summary["items"]]
        assert lines == [
            ("ada", "k8s", "k8s_scale_deployment", "success", 3, 3),
            ("eve", "cmdb", "cmdb_query_assets", "denied", 1, 0),
        ]
        assert summary["page"]["next_cursor"] is None
        one = (await caller.call("audit", "summarize", {"by": ["actor"], "limit": 1})).structured
        assert [item["actor"] for item in one["items"]] == ["ada"]
        two = {"by": ["actor"], "limit": 1, "cursor": one["page"]["next_cursor"]}
        assert [item["actor"] for item in (await caller.call("audit", "summarize", two)).structured["items"]] == ["eve"]
        for wrong in ({"by": ["payload"]}, {"cursor": "made up"}, {"since": "now", "until": "now-1d"}):
            assert (await caller.call("audit", "summarize", wrong)).error.code == "invalid_arguments"
