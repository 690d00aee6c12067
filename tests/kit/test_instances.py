"""Several instances, lifespans, state, and messages made to hurt."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsbus import Context, Settings, Worker
from opsbus_contracts import ErrorBody, Header, Status

counts: dict[str, int] = {}


class MySettings(Settings):
    greeting: str = "hello"


worker = Worker("test", version="1.0.0", settings=MySettings)


class State:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting
        self.open = True


states: list[State] = []


@worker.lifespan
async def lifespan(settings: MySettings):
    state = State(settings.greeting)
    states.append(state)
    yield state
    state.open = False


@worker.tool(permission="test:read")
async def once(ctx: Context[State], key: str) -> str:
    """Counts."""
    assert ctx.state.open
    counts[key] = counts.get(key, 0) + 1
    return f"{ctx.state.greeting} {ctx.settings.greeting}"


@worker.tool(permission="test:read", read_only=True)
async def typed(ctx: Context[State], number: int, names: list[str], mapping: dict[str, float] | None = None) -> int:
    """Takes several types."""
    return number


async def test_state_and_settings(run_worker, caller):
    states.clear()
    async with run_worker(worker, greeting="moin"):
        assert (await caller.call("test", "once", {"key": "a"})).structured == {"result": "moin moin"}
        assert [state.open for state in states] == [True]
    assert [state.open for state in states] == [False]


async def test_a_lifespan_that_fails_stops_the_start(run_worker, bus):
    broken = Worker("demo", version="1.0.0")

    @broken.lifespan
    async def lifespan(settings: Settings):
        raise RuntimeError("no backend")
        yield

    with pytest.raises(RuntimeError, match="no backend"):
        async with run_worker(broken):
            raise AssertionError("it must not start")
    bucket = await (await bus.jetstream()).key_value("CATALOG")
    assert (await bucket.status()).values == 0


async def test_three_instances_share_the_calls_and_run_each_once(run_worker, caller):
    counts.clear()
    async with run_worker(worker), run_worker(worker), run_worker(worker):
        replies = await asyncio.gather(*(caller.call("test", "once", {"key": str(n)}) for n in range(300)))
    assert all(reply.status is Status.OK for reply in replies)
    assert set(counts.values()) == {1}
    assert len(counts) == 300
    assert len({reply.headers[Header.INSTANCE] for reply in replies}) == 3


async def test_rolling_replacement_loses_nothing(run_worker, caller):
    """A new instance comes, the old one drains, calls go on throughout."""
    counts.clear()
    stop = asyncio.Event()
    done = 0

    async def keep_calling() -> None:
        nonlocal done
        while not stop.is_set():
            reply = await caller.call("test", "once", {"key": str(done)})
            assert reply.status is Status.OK
            done += 1

    async with run_worker(worker):
        calling = asyncio.create_task(keep_calling())
        for _ in range(5):
            async with run_worker(worker):
                before = done
                while done < before + 5:
                    await asyncio.sleep(0.005)
        stop.set()
        await calling
    assert set(counts.values()) == {1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from([str(header) for header in Header]),
    st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=40),
    max_size=4,
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "arguments": JSON,
        "client": JSON,
        "input_responses": JSON,
        "request_state": JSON,
        "log_level": JSON,
        "progress": JSON,
        "uri": JSON,
        "name": JSON,
        "ref": JSON,
        "argument": JSON,
        "context": JSON,
    },
)
METHODS = ("resources_read", "prompts_get", "completion_complete")
SUBJECTS = st.sampled_from(["tool.test.typed", "tool.test.once", *(f"mcp.test.{method}" for method in METHODS)])


async def test_no_message_goes_unanswered(run_worker, caller):
    """Whatever is in a message, its answer is a result or an ErrorBody; never silence, never a traceback."""
    loop = asyncio.get_running_loop()

    async with run_worker(worker):

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(SUBJECTS, st.one_of(REQUEST, JSON, st.binary(max_size=60)), HEADERS)
        def send(subject, body, headers):
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            reply = asyncio.run_coroutine_threadsafe(caller.send(subject, raw, headers=headers), loop).result(30)
            if reply.status is Status.ERROR:
                error = ErrorBody.model_validate_json(reply.body)
                assert error.code != "internal", error
                assert b"Traceback" not in reply.body
            assert reply.executed in ("yes", "no", "unknown")

        await asyncio.to_thread(send)
