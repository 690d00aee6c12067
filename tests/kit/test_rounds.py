"""Questions to the user and confirmations: rounds that need no memory in the worker."""

import asyncio
import json
import time

import pytest
from pydantic import BaseModel, Field

from opsbus import Context, Elicit, ErrorCode, Plan, Roots, Sample, ToolError, Undo, Worker
from opsbus.ask import STATE_BYTES_MAX, flat_schema
from opsbus.bucket_keys import bucket_keys
from opsbus.provision import provision
from opsbus.testing.waiting import until
from opsbus_contracts import Header, Identity, Status, identity

worker = Worker("test", version="1.0.0")
world = {"replicas": 3, "version": "v1", "writes": 0, "runs": 0}
CAN = {"capabilities": {"elicitation": {}, "sampling": {}, "roots": {}}}
CANNOT = {"capabilities": {}}


@pytest.fixture(autouse=True)
def fresh():
    world.update(replicas=3, version="v1", writes=0, runs=0)


class Name(BaseModel):
    name: str = Field(description="Yours.", min_length=2)
    age: int | None = None


@worker.tool(permission="test:read", read_only=True)
async def greet(ctx: Context[None]) -> str:
    """Asks for a name."""
    world["runs"] += 1
    answer = await ctx.ask("user_name", Elicit("What is your name?", Name))
    return f"hello {answer.name}"


@worker.tool(permission="test:read", read_only=True)
async def three_rounds(ctx: Context[None]) -> str:
    """One after the other."""
    first = await ctx.ask("a", Elicit("a?", Name))
    second = await ctx.ask("b", Elicit(f"b, {first.name}?", Name))
    raw = await ctx.ask("c", Elicit("c?", schema={"type": "object", "properties": {"ok": {"type": "boolean"}}}))
    return f"{first.name} {second.name} {raw}"


@worker.tool(permission="test:read", read_only=True)
async def several(ctx: Context[None]) -> dict[str, str]:
    """All kinds at once."""
    answers = await ctx.ask_all({"who": Elicit("Who?", Name), "what": Sample("Say hi", max_tokens=7), "where": Roots()})
    return {"who": answers["who"].name, "what": answers["what"].text, "where": answers["where"][0].uri}


@worker.tool(permission="test:read", read_only=True)
async def grouped(ctx: Context[None]) -> str:
    """Asks inside a task group, which wraps what is raised in it."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ctx.ask("user_name", Elicit("What is your name?", Name)))
    return task.result().name


@worker.tool(permission="test:read", read_only=True)
async def careless(ctx: Context[None]) -> str:
    """Catches every Exception around its question."""
    try:
        return (await ctx.ask("user_name", Elicit("Name?", Name))).name
    except Exception:  # noqa: BLE001
        return "swallowed"


@worker.tool(permission="test:write", destructive=True)
async def scale(
    ctx: Context[None], replicas: int, reason: str = "", dry_run: bool = False, confirm: str | None = None
) -> dict[str, int] | Plan:
    """A write with a plan."""
    plan = Plan(
        summary=f"Scale {world['replicas']} -> {replicas}",
        changes=[{"path": "replicas", "before": world["replicas"], "after": replicas}],
        blast_radius="the shop",
        undo=Undo(tool="test_scale", arguments={"replicas": world["replicas"]}),
    )
    if dry_run:
        return plan
    await ctx.confirm(plan, version=world["version"], confirm=confirm)
    world["replicas"] = replicas
    world["writes"] += 1
    return {"replicas": replicas}


def accept(**content):
    return {"action": "accept", "content": content}


async def go_on(caller, tool, reply, responses, arguments=None, **options):
    return await caller.call(
        "test",
        tool,
        arguments,
        client=CAN,
        input_responses=responses,
        request_state=reply.result["requestState"],
        **options,
    )


async def test_a_question_and_its_answer_on_another_instance(run_worker, caller):
    async with run_worker(worker):
        asked = await caller.call("test", "greet", client=CAN)
    assert asked.status is Status.INPUT_REQUIRED
    assert asked.executed == "no"
    assert asked.result["resultType"] == "input_required"
    assert asked.result["inputRequests"] == {
        "user_name": {
            "method": "elicitation/create",
            "params": {
                "mode": "form",
                "message": "What is your name?",
                "requestedSchema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "Yours.", "minLength": 2},
                        "age": {"type": "integer"},
                    },
                    "required": ["name"],
                },
            },
        }
    }
    async with run_worker(worker):
        done = await go_on(caller, "greet", asked, {"user_name": accept(name="Ann")})
    assert done.structured == {"result": "hello Ann"}


async def test_three_rounds_keep_their_answers(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "three_rounds", client=CAN)
        reply = await go_on(caller, "three_rounds", reply, {"a": accept(name="Ann")})
        assert reply.result["inputRequests"]["b"]["params"]["message"] == "b, Ann?"
        reply = await go_on(caller, "three_rounds", reply, {"b": accept(name="Bob")})
        reply = await go_on(caller, "three_rounds", reply, {"c": accept(ok=True)})
        assert reply.structured == {"result": "Ann Bob {'ok': True}"}


async def test_all_kinds_at_once(run_worker, caller):
    async with run_worker(worker):
        asked = await caller.call("test", "several", client=CAN)
        requests = asked.result["inputRequests"]
        assert requests["what"]["method"] == "sampling/createMessage"
        assert requests["what"]["params"]["maxTokens"] == 7
        assert requests["where"] == {"method": "roots/list", "params": {}}
        sampled = {
            "role": "assistant",
            "content": {"type": "text", "text": "hi"},
            "model": "m",
            "stopReason": "endTurn",
        }
        partly = await go_on(caller, "several", asked, {"who": accept(name="Ann"), "what": sampled})
        assert list(partly.result["inputRequests"]) == ["where"]  # a missing answer is asked again, not an error
        done = await go_on(caller, "several", partly, {"where": {"roots": [{"uri": "file:///x"}]}})
        assert done.structured == {"who": "Ann", "what": "hi", "where": "file:///x"}


@pytest.mark.parametrize("tool", ["grouped", "careless"])
async def test_a_question_gets_out_of_whatever_it_is_asked_in(run_worker, caller, tool):
    async with run_worker(worker):
        asked = await caller.call("test", tool, client=CAN)
        assert asked.status is Status.INPUT_REQUIRED
        assert (await go_on(caller, tool, asked, {"user_name": accept(name="Ann")})).structured == {"result": "Ann"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"action": "decline"}, ErrorCode.DECLINED),
        ({"action": "cancel"}, ErrorCode.DECLINED),
        ({"action": "maybe"}, ErrorCode.INVALID_ARGUMENTS),
        ({}, ErrorCode.INVALID_ARGUMENTS),
        ("yes", ErrorCode.INVALID_ARGUMENTS),
        (accept(name="x"), ErrorCode.INVALID_ARGUMENTS),
        (accept(), ErrorCode.INVALID_ARGUMENTS),
        ({"action": "accept"}, ErrorCode.INVALID_ARGUMENTS),
    ],
)
async def test_answers_that_are_none(run_worker, caller, answer, code):
    async with run_worker(worker):
        asked = await caller.call("test", "greet", client=CAN)
        assert (await go_on(caller, "greet", asked, {"user_name": answer})).error.code is code


async def test_a_client_that_cannot_is_told_what_it_needs(run_worker, caller):
    async with run_worker(worker):
        error = (await caller.call("test", "several", client={"capabilities": {"elicitation": {}}})).error
    assert error.code is ErrorCode.MISSING_CAPABILITY
    assert error.details == {"requiredCapabilities": {"sampling": {}, "roots": {}}}


async def test_an_answer_to_what_was_never_asked_is_dropped(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "greet", client=CAN, input_responses={"user_name": accept(name="Eve")})
        assert reply.status is Status.INPUT_REQUIRED
        other = await go_on(caller, "three_rounds", reply, {"user_name": accept(name="Eve"), "a": accept(name="Eve")})
        assert list(other.result["inputRequests"]) == ["a"]


@pytest.mark.parametrize("state", ["{", "[]", "7", '{"answers": 7}', "x" * (STATE_BYTES_MAX + 1)])
async def test_a_damaged_state_is_refused(run_worker, caller, state):
    async with run_worker(worker):
        reply = await caller.call("test", "greet", client=CAN, request_state=state)
    assert reply.error.code in (ErrorCode.INVALID_REQUEST, ErrorCode.REQUEST_TOO_LARGE)


async def test_a_write_is_confirmed_by_the_user(run_worker, caller):
    async with run_worker(worker):
        asked = await caller.call("test", "scale", {"replicas": 5}, client=CAN)
        message = asked.result["inputRequests"]["confirm"]["params"]["message"]
        assert "Scale 3 -> 5" in message
        assert "the shop" in message
        assert world["writes"] == 0
        done = await go_on(caller, "scale", asked, {"confirm": accept(proceed=True)}, {"replicas": 5})
        assert done.structured == {"replicas": 5}
        assert world["writes"] == 1


@pytest.mark.parametrize("answer", [accept(proceed=False), {"action": "decline"}, {"action": "cancel"}, accept()])
async def test_whatever_is_no_yes_writes_nothing(run_worker, caller, answer):
    async with run_worker(worker):
        asked = await caller.call("test", "scale", {"replicas": 5}, client=CAN)
        reply = await go_on(caller, "scale", asked, {"confirm": answer}, {"replicas": 5})
    assert reply.error.code in (ErrorCode.DECLINED, ErrorCode.INVALID_ARGUMENTS)
    assert world["writes"] == 0


async def test_a_plan_that_changed_is_asked_again(run_worker, caller):
    async with run_worker(worker):
        for change in ({"replicas": 4}, {"version": "v2"}):
            asked = await caller.call("test", "scale", {"replicas": 5}, client=CAN)
            world.update(change)
            again = await go_on(caller, "scale", asked, {"confirm": accept(proceed=True)}, {"replicas": 5})
            assert again.status is Status.INPUT_REQUIRED
        other = await go_on(caller, "scale", asked, {"confirm": accept(proceed=True)}, {"replicas": 500})
        assert other.status is Status.INPUT_REQUIRED
    assert world["writes"] == 0


async def token_for(caller, **options):
    error = (await caller.call("test", "scale", {"replicas": 5}, client=CANNOT, **options)).error
    assert error.code is ErrorCode.CONFIRMATION_REQUIRED
    assert error.details["plan"]["summary"] == "Scale 3 -> 5"
    assert error.details["plan"]["undo"] == {"tool": "test_scale", "arguments": {"replicas": 3}}
    assert error.executed == "no"
    return error.details["confirm"]


async def test_a_token_confirms_once_on_any_instance(run_worker, caller):
    async with run_worker(worker):
        token = await token_for(caller)
    async with run_worker(worker):
        confirmed = {"replicas": 5, "confirm": token}
        assert (await caller.call("test", "scale", confirmed)).structured == {"replicas": 5}
        again = await caller.call("test", "scale", confirmed)
    assert again.error.code is ErrorCode.PRECONDITION_FAILED
    assert world["writes"] == 1


@pytest.mark.parametrize("change", ["caller", "arguments", "version", "token", "tool"])
async def test_a_token_holds_for_nothing_else(run_worker, caller, change):
    async with run_worker(worker):
        token = await token_for(caller)
        arguments, options = {"replicas": 5, "confirm": token}, {}
        if change == "caller":
            options["identity"] = "eve"
        elif change == "arguments":
            arguments["replicas"] = 50
        elif change == "version":
            world["version"] = "v2"
        elif change == "token":
            arguments["confirm"] = token[:-1] + ("a" if token[-1] != "a" else "b")
        else:
            arguments["confirm"] = "x"
        reply = await caller.call("test", "scale", arguments, client=CAN, **options)
        assert reply.error.code is ErrorCode.PRECONDITION_FAILED
        assert world["writes"] == 0
        world["version"] = "v1"
        good = await caller.call("test", "scale", {"replicas": 5, "confirm": token})
        assert good.structured == {"replicas": 5}  # not spent by who could not use it


async def test_a_token_spent_by_many_at_once_confirms_once(run_worker, caller):
    async with run_worker(worker), run_worker(worker):
        token = await token_for(caller)
        spends = [caller.call("test", "scale", {"replicas": 5, "confirm": token}) for _ in range(8)]
        replies = await asyncio.gather(*spends)
    assert sorted(reply.status for reply in replies) == [Status.ERROR] * 7 + [Status.OK]
    assert world["writes"] == 1


async def test_a_token_expires(run_worker, caller, bus):
    async with run_worker(worker):
        token = await token_for(caller)
        js = await bus.jetstream()
        bucket = await js.key_value("CONFIRMATIONS")
        for key in await bucket_keys(js, "CONFIRMATIONS"):
            record = json.loads((await bucket.get(key)).value)
            await bucket.put(key, json.dumps(record | {"expires": 1}).encode())
        reply = await caller.call("test", "scale", {"replicas": 5, "confirm": token})
        assert "expired" in reply.error.message
        assert world["writes"] == 0


async def test_without_the_bucket_nothing_is_confirmed(run_worker, caller, bus):
    async with run_worker(worker):
        token = await token_for(caller)
        await (await bus.jetstream()).delete_stream("KV_CONFIRMATIONS")
        for arguments in ({"replicas": 5}, {"replicas": 5, "confirm": token}):
            reply = await caller.call("test", "scale", arguments, client=CANNOT)
            assert reply.error.code is ErrorCode.UNAVAILABLE
            assert reply.executed == "no"
        assert world["writes"] == 0


async def test_a_dry_run_returns_the_plan(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("test", "scale", {"replicas": 5, "dry_run": True})
    assert "Scale 3 -> 5" in reply.text
    assert world["writes"] == 0


async def test_a_call_that_asks_leaves_its_idempotency_key_free(run_worker, caller):
    async with run_worker(worker):
        asked = await caller.call("test", "scale", {"replicas": 5}, client=CAN, idempotency_key="k")
        assert asked.status is Status.INPUT_REQUIRED
        answer = {"confirm": accept(proceed=True)}
        done = await go_on(caller, "scale", asked, answer, {"replicas": 5}, idempotency_key="k")
        again = await go_on(caller, "scale", asked, answer, {"replicas": 5}, idempotency_key="k")
        assert done.body == again.body
        assert again.headers["Opsbus-Replayed"] == "true"
        assert world["writes"] == 1
        await until(lambda: not worker.runtimes or all(not r.calls for r in worker.runtimes))


def test_a_form_is_flat():
    class Inner(BaseModel):
        x: int

    class Nested(BaseModel):
        inner: Inner

    with pytest.raises(TypeError, match=r"Nested\.inner"):
        flat_schema(Nested)
    with pytest.raises(TypeError):
        Elicit("both", Name, schema={})
    with pytest.raises(TypeError):
        Elicit("none")
    with pytest.raises(ToolError):
        Elicit("x", Name).read(None)


async def approvals(bus):
    js = await bus.jetstream()
    last = (await js.stream_info("AUDIT")).state.last_seq
    events = [json.loads((await js.get_msg("AUDIT", number)).data)["data"] for number in range(1, last + 1)]
    return [event for event in events if event["stage"] == "approved"]


async def test_an_approval_is_in_the_record_before_the_write(run_worker, caller, bus):
    async with run_worker(worker):
        token = await token_for(caller, call_id="a" * 32)
        assert await approvals(bus) == []
        options = {"call_id": "b" * 32}
        done = await caller.call("test", "scale", {"replicas": 5, "confirm": token}, **options)
    assert done.structured == {"replicas": 5}
    (event,) = await approvals(bus)
    assert (event["call"], event["actor"], event["approver"]) == ("b" * 32, "tester", "tester")
    assert (event["tool"], event["mutating"], event["seq"]) == ("test_scale", True, 1)
    assert event["details"] == {"how": "token", "asked_in": "a" * 32, "version": "v1"}


async def test_a_plan_that_changed_is_approved_where_it_was_asked_last(run_worker, caller, bus):
    yes = {"confirm": accept(proceed=True)}
    async with run_worker(worker):
        asked = await caller.call("test", "scale", {"replicas": 5}, client=CAN, call_id="a" * 32)
        world["version"] = "v2"
        again = await go_on(caller, "scale", asked, yes, {"replicas": 5}, call_id="b" * 32)
        assert again.status is Status.INPUT_REQUIRED
        done = await go_on(caller, "scale", again, yes, {"replicas": 5}, call_id="c" * 32)
    assert done.structured == {"replicas": 5}
    (event,) = await approvals(bus)
    assert (event["call"], event["details"]) == ("c" * 32, {"how": "asked", "asked_in": "b" * 32, "version": "v2"})


async def test_what_needs_no_approval_has_none(run_worker, caller, bus):
    async with run_worker(worker):
        done = await caller.call("test", "scale", {"replicas": 5}, client=CANNOT, headers={Header.APPROVAL: "none"})
    assert done.structured == {"replicas": 5}
    assert await approvals(bus) == []


async def test_an_approval_names_a_pseudonym_where_the_record_does(run_worker, caller, bus):
    now = int(time.time())
    person = Identity(
        sub="ada@shop.example", record_as="person-0123456789abcdef", permissions=["*"], aud=identity.audience("test"),
        iat=now, exp=now + 60,
    )  # fmt: skip
    async with run_worker(worker):
        token = await token_for(caller, identity=person)
        await caller.call("test", "scale", {"replicas": 5, "confirm": token}, identity=person)
    (event,) = await approvals(bus)
    assert (event["actor"], event["approver"]) == ("person-0123456789abcdef", "person-0123456789abcdef")
    assert "shop.example" not in json.dumps(event)


async def test_what_the_record_does_not_take_is_not_done(run_worker, caller, bus):
    js = await bus.jetstream()
    async with run_worker(worker):
        token = await token_for(caller)
        await js.delete_stream("AUDIT")
        error = (await caller.call("test", "scale", {"replicas": 5, "confirm": token}, call_id="b" * 32)).error
        assert (error.code, error.executed) == (ErrorCode.AUDIT_UNAVAILABLE, "no")
        assert world["writes"] == 0
        await provision(js)
        await until_approved(bus)
        # Its number is taken, and it was confirmed: the event comes late rather than never.
        (event,) = await approvals(bus)
        assert (event["call"], event["seq"]) == ("b" * 32, 1)
        spent = await caller.call("test", "scale", {"replicas": 5, "confirm": token})
        assert spent.error.code is ErrorCode.PRECONDITION_FAILED
    assert world["writes"] == 0


async def until_approved(bus):
    async with asyncio.timeout(30):
        while not await approvals(bus):
            await asyncio.sleep(0.05)
