"""``opsbus audit shadow``: recorded reads to a candidate. Above all: what may change something is never sent."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from opsbus import Context, Worker
from opsbus import shadow as kit_shadow
from opsbus.bucket_keys import bucket_keys
from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller
from opsbus_audit.cli import app
from opsbus_audit.ordered import Recorded
from opsbus_audit.shadow.compare import compare, pick
from opsbus_audit.shadow.difference import differences
from opsbus_audit.shadow.eligible import Skipped, reads_of, refusal
from opsbus_audit.shadow.send import Answer, Candidate
from opsbus_contracts import Manifest
from opsbus_contracts.catalog import ToolAnnotations, ToolSpec


def spec(name: str = "get_things", *, read_only: bool = True, destructive: bool = False) -> ToolSpec:
    hints = ToolAnnotations(
        readOnlyHint=read_only, destructiveHint=destructive, idempotentHint=True, openWorldHint=False
    )
    return ToolSpec(name=name, inputSchema={"type": "object"}, annotations=hints, permission="demo:read")


def manifest(*tools: ToolSpec, instance: str = "demo-1") -> Manifest:
    return Manifest(service="demo", instance=instance, version="1.0.0", started_at=datetime.now(UTC), tools=list(tools))


READS = {"demo_get_things": spec()}


def requested(arguments: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """``data`` of a recorded read, as an edge writes it."""
    raw = orjson.dumps(arguments or {})
    read = {
        "stage": "requested", "call": "a" * 32, "actor": "ada", "method": "tools/call", "tool": "demo_get_things",
        "service": "demo", "arguments": arguments or None, "arguments_digest": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip
    return {name: value for name, value in (read | data).items() if value is not None}


def test_a_plain_read_may_be_sent() -> None:
    assert refusal(requested(), READS, set()) is None
    assert refusal(requested({"name": "a", "limit": 3}), READS, set()) is None
    assert refusal(requested(mutating=False), READS, set()) is None


@pytest.mark.parametrize("spelling", [{"separators": (", ", ": ")}, {"ensure_ascii": False}, {"ensure_ascii": True}])
def test_arguments_in_another_spelling_are_the_same(spelling: dict[str, Any]) -> None:
    raw = json.dumps({"name": "Zürich", "limit": 3}, **spelling).encode()
    data = requested({"name": "Zürich", "limit": 3}, arguments_digest=hashlib.sha256(raw).hexdigest())
    assert refusal(data, READS, set()) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"mutating": True}, Skipped.MUTATING),
        ({"mutating": "false"}, Skipped.MUTATING),
        ({"mutating": 0}, Skipped.MUTATING),
        ({"mutating": ""}, Skipped.MUTATING),
        ({"mutating": []}, Skipped.MUTATING),
        ({"idempotency_key": "k-1"}, Skipped.MUTATING),
        ({"tool": "demo_delete_things"}, Skipped.NOT_READ_ONLY),
        ({"tool": "demo_unheard_of"}, Skipped.UNKNOWN_TOOL),
        ({"tool": ""}, Skipped.NO_TOOL_CALL),
        ({"tool": ["demo_get_things"]}, Skipped.NO_TOOL_CALL),
        ({"method": "resources/read"}, Skipped.NO_TOOL_CALL),
        ({"method": "platform"}, Skipped.NO_TOOL_CALL),
        ({"stage": "completed"}, Skipped.NO_TOOL_CALL),
        ({"stage": "approved"}, Skipped.NO_TOOL_CALL),
        ({"arguments_digest": ""}, Skipped.REDACTED),
        ({"arguments_digest": "hmac-sha256:" + "0" * 64}, Skipped.REDACTED),
        ({"arguments_digest": 7}, Skipped.REDACTED),
        ({"arguments_digest": "0" * 64}, Skipped.NOT_RECORDED),
        ({"arguments": "[redacted]"}, Skipped.NOT_RECORDED),
        ({"arguments": {"password": "[redacted]"}}, Skipped.REDACTED),
        ({"arguments": {"a": {"b": ["x [redacted 1f2e3d4c5b6a7988] y"]}}}, Skipped.REDACTED),
        ({"arguments": {"[Redacted key]": 1}}, Skipped.REDACTED),
        ({"arguments": {"_omitted": "20000 bytes"}}, Skipped.NOT_RECORDED),
        ({"arguments": {"name": "another"}}, Skipped.NOT_RECORDED),
    ],
)
def test_whatever_is_not_plainly_a_read_is_left_out(data: dict[str, Any], why: Skipped) -> None:
    assert refusal(requested() | data, READS, {"demo_delete_things"}) == why


def test_null_is_no_word_that_a_call_only_reads() -> None:
    assert refusal(requested() | {"mutating": None}, READS, set()) == Skipped.MUTATING


@given(st.dictionaries(st.sampled_from(["mutating", "tool", "stage", "method", "arguments", "arguments_digest"]),
                       st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                                    lambda inner: st.lists(inner, max_size=2), max_leaves=3)))  # fmt: skip
def test_only_a_whole_read_passes_whatever_is_recorded(changes: dict[str, Any]) -> None:
    data = requested({"name": "a"}) | changes
    if refusal(data, READS, set()) is None:
        assert data.get("mutating", False) is False
        assert data["tool"] == "demo_get_things"
        assert data["stage"] == "requested"


def test_the_catalogue_decides_for_every_instance() -> None:
    reads, _ = reads_of("demo", [manifest(spec()), manifest(spec(), instance="demo-2")])
    assert set(reads) == {"demo_get_things"}
    one_disagrees = [manifest(spec()), manifest(spec(read_only=False), instance="demo-2")]
    assert reads_of("demo", one_disagrees) == ({}, {"demo_get_things"})
    assert reads_of("demo", one_disagrees[::-1]) == ({}, {"demo_get_things"})
    assert reads_of("demo", [manifest(spec(destructive=True))])[0] == {}
    assert reads_of("other", [manifest(spec())]) == ({}, set())
    assert refusal(requested(), reads, {"demo_get_things"}) == Skipped.NOT_READ_ONLY


async def test_the_sender_itself_refuses_a_tool_that_writes() -> None:
    candidate = Candidate(None, "demo", Signer.generate(), 1.0)  # type: ignore[arg-type]
    for tool in (spec(read_only=False), spec(destructive=True)):
        with pytest.raises(ValueError, match="is not read-only"):
            await candidate.call(tool, "ada", {})


async def events(*data: dict[str, Any]) -> AsyncIterator[list[Recorded]]:
    yield [
        Recorded(number, 1, "audit.edge.x", None, orjson.dumps({"data": item})) for number, item in enumerate(data, 1)
    ]


@pytest.mark.parametrize(
    "story",
    [
        [requested(), requested(stage="completed", mutating=True)],
        [requested(stage="approved", mutating=True), requested(), requested(stage="completed")],
        [requested(), requested(), requested(stage="completed")],
        [requested(mutating=True), requested(), requested(stage="completed")],
        [requested(), requested(stage="completed"), requested(stage="failed", mutating="yes")],
        [requested()],
        [],
    ],
)
async def test_one_word_of_a_change_anywhere_in_a_call_is_enough(story: list[dict[str, Any]]) -> None:
    picked = await pick(events(*story), "demo", READS, set(), 10)
    assert picked.calls == []
    assert sum(picked.skipped.values()) >= (1 if story else 0)


async def test_calls_are_picked_with_how_they_ended() -> None:
    end = requested(stage="completed", duration_ms=12.5, result_digest="d")
    picked = await pick(events(requested({"name": "x"}), end), "demo", READS, set(), 10)
    assert [(c.tool, c.actor, c.arguments, c.status, c.ms) for c in picked.calls] == [
        ("demo_get_things", "ada", {"name": "x"}, "ok", 12.5)
    ]
    none = await pick(events(requested(), end), "demo", READS, set(), 0)
    assert none.skipped == {Skipped.OVER_LIMIT: 1}


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1, "as_of": "x"}, {"a": 1, "as_of": "y"}, []),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({}, {"a": None}, ["a"]),
        ([1, 2], [1, 3, 4], ["[1]", ".length"]),
        ({"items": [{"n": 1}]}, {"items": [{"n": 2}]}, ["items[0].n"]),
        ("x", ["x"], ["(all)"]),
        (None, 0, ["(all)"]),
    ],
)
def test_structures_are_compared_place_by_place(one: Any, other: Any, paths: list[str]) -> None:
    assert [found.path for found in differences(one, other)] == paths
    assert len(differences(list(range(100)), list(range(100, 200)))) == 20


class Fake:
    """Answers as told, and remembers what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def call(self, *asked: Any) -> Answer:
        self.asked.append(asked)
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("candidate", "present", "verdict"),
    [
        (Answer("ok", {"structuredContent": {"n": 1}}, 1), Answer("ok", {"structuredContent": {"n": 1}}, 1), "same"),
        (
            Answer("ok", {"structuredContent": {"n": 2}}, 1),
            Answer("ok", {"structuredContent": {"n": 1}}, 1),
            "different",
        ),
        (Answer("internal", {}, 1), Answer("ok", {}, 1), "different"),
        (Answer("not_found", {}, 1), Answer("not_found", {}, 1), "same"),
        (Answer("internal", {}, 1), None, "different"),
        (Answer("ok", {}, 1), None, "not comparable"),
    ],
)
async def test_verdicts(candidate: Answer, present: Answer | None, verdict: str) -> None:
    picked = await pick(events(requested(), requested(stage="completed")), "demo", READS, set(), 10)
    asks = Fake(present) if present is not None else None
    (found,) = await compare(picked, READS, Fake(candidate), asks, at_once=2)
    assert found.verdict == verdict


def demo(version: str, *, broken: bool = False) -> Worker:
    """A worker that reads and writes; the candidate may be broken."""
    worker = Worker("demo", version=version)

    @worker.tool(permission="demo:read", read_only=True)
    async def get_things(ctx: Context, name: str = "a") -> dict[str, Any]:
        return {"name": name, "by": ctx.identity.sub, "n": 2 if broken else 1}

    @worker.tool(permission="demo:write", destructive=True)
    async def delete_things(ctx: Context) -> dict[str, Any]:
        raise AssertionError("a candidate ran a tool that writes")

    return worker


@pytest.fixture
async def candidate(bus: Bus, run_worker: Any, tmp_path: Path) -> AsyncIterator[Path]:
    """A broken candidate beside the version in service; the data folder."""
    key = tmp_path / "keys" / kit_shadow.KEY_NAME
    kit_shadow.signer(key)
    shadow = {"shadow": True, "shadow_key_file": key.with_suffix(".pub.pem")}
    async with run_worker(demo("1.0.0")), run_worker(demo("2.0.0", broken=True), **shadow):
        yield tmp_path


async def shadowed(bus: Bus, folder: Path, *words: str) -> tuple[int, str, str]:
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    environment |= {"OPSBUS_DATA": str(folder), "OPSBUS_AUDIT_DATABASE_URL": ""}
    arguments = ["shadow", "--worker", "demo", "--edge", "none", *words]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
    return done.exit_code, done.stdout, done.stderr


async def write(edge: Any, data: dict[str, Any]) -> None:
    await edge.write(data["stage"], **{name: value for name, value in data.items() if name != "stage"})


async def test_recorded_reads_reach_the_candidate_and_nothing_else_does(
    bus: Bus, edge: Any, candidate: Path, caller: Caller
) -> None:
    for number in range(3):
        call = f"{number:032x}"
        await write(edge, requested({"name": f"t{number}"}, call=call))
        failed = number == 2
        await write(edge, requested(stage="failed" if failed else "completed", call=call, error="x" if failed else None,
                                    arguments=None, duration_ms=3.0))  # fmt: skip
    deleted = {"call": "d" * 32, "tool": "demo_delete_things", "mutating": True}
    await write(edge, requested(**deleted))
    await write(edge, requested(stage="completed", **deleted))
    lied = {"call": "e" * 32, "tool": "demo_delete_things"}
    await write(edge, requested(**lied))
    await write(edge, requested(stage="completed", **lied))
    await write(edge, requested({"name": "[redacted]"}, call="f" * 32, arguments_digest="hmac-sha256:00"))
    code, out, err = await shadowed(bus, candidate, "--json")
    assert code == 3, err
    report = json.loads(out)
    assert report["sent"] == 3
    assert report["skipped"] == {
        Skipped.MUTATING: 1, Skipped.NOT_READ_ONLY: 1, Skipped.REDACTED: 1,
    }  # fmt: skip
    line = report["tools"][0]
    assert (line["tool"], line["calls"], line["different"], line["not_comparable"]) == ("demo_get_things", 3, 1, 2)
    assert report["differences"][0]["differences"] == [{"path": "outcome", "present": "x", "candidate": "ok"}]
    code, out, _ = await shadowed(bus, candidate)
    assert "demo_get_things" in out


async def test_a_candidate_is_no_part_of_the_platform(bus: Bus, candidate: Path, caller: Caller) -> None:
    assert (await caller.call("demo", "get_things")).structured["n"] == 1
    assert len(await bucket_keys(await bus.jetstream("auditor"), "CATALOG")) == 1
    auditor = await bus.connect("auditor")
    signer = Signer.from_pem((candidate / "keys" / kit_shadow.KEY_NAME).read_bytes())
    good = await Candidate(auditor, "demo", signer, 20.0).call(spec(), "ada", {"name": "x"})
    assert good.status == "ok"
    assert good.body["structuredContent"] == {"name": "x", "by": "ada", "n": 2}
    for other in (Signer.generate(), bus.signer):
        refused = await Candidate(auditor, "demo", other, 20.0).call(spec(), "ada", {})
        assert refused.status == "unauthenticated"
    forged = await Candidate(auditor, "demo", signer, 20.0).call(spec("delete_things"), "ada", {})
    assert forged.status == "forbidden"
    mine = signer.mint("ada", permissions=["*"])
    assert (await caller.call("demo", "get_things", identity=mine)).error.code == "unauthenticated"


async def test_without_a_candidate_it_says_how_to_start_one(
    bus: Bus, edge: Any, run_worker: Any, tmp_path: Any
) -> None:
    async with run_worker(demo("1.0.0")):
        await write(edge, requested())
        await write(edge, requested(stage="completed"))
        code, _, err = await shadowed(bus, tmp_path)
    assert code == 1
    assert "opsbus run demo --shadow" in err
    assert "Traceback" not in err
    code, _, err = await shadowed(bus, tmp_path, "--until", "now-1w")
    assert code == 1
