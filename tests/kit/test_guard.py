"""The circuit breaker in front of a backend, and the repeating of reads."""

import asyncio

import pytest

from opsbus.guard import BackendShutError, Guard


class DownError(Exception):
    """The backend is not there."""


class RefusedError(Exception):
    """The backend said no: an answer."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Backend:
    def __init__(self, *answers: Exception | str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


def is_down(error: Exception) -> bool:
    return isinstance(error, DownError)


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(
        lambda error: isinstance(error, DownError), failures=3, shut_s=2.0, shut_max_s=5.0, wait_s=0.0, clock=clock
    )


async def test_a_read_is_repeated_over_a_passing_fault(guard: Guard) -> None:
    backend = Backend(DownError(), DownError(), "fine")
    assert await guard.read(backend) == "fine"
    assert backend.asked == 3


async def test_a_write_is_not(guard: Guard) -> None:
    backend = Backend(DownError(), "fine")
    with pytest.raises(DownError):
        await guard.once(backend)
    assert backend.asked == 1


async def test_what_the_backend_says_is_neither_repeated_nor_counted(guard: Guard) -> None:
    backend = Backend(RefusedError())
    for _ in range(10):
        with pytest.raises(RefusedError):
            await guard.read(backend)
    assert backend.asked == 10
    assert not guard.shut


async def test_what_is_not_worth_repeating_counts_all_the_same(clock: Clock) -> None:
    guard = Guard(lambda error: True, lambda error: not isinstance(error, TimeoutError), failures=2, clock=clock)
    backend = Backend(TimeoutError())
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await guard.read(backend)
    assert backend.asked == 2
    assert guard.shut


async def test_after_failures_in_a_row_nobody_asks_until_one_may_look(guard: Guard, clock: Clock) -> None:
    down = Backend(DownError())
    with pytest.raises(DownError):
        await guard.read(down)
    assert (down.asked, guard.shut) == (3, True)
    for _ in range(5):
        with pytest.raises(BackendShutError) as told:
            await guard.read(down)
        assert told.value.retry_in_s == pytest.approx(2.0)
    assert down.asked == 3
    clock.now += 2.0
    # One looks; it is still down, and shut for twice as long, then for as long as is allowed.
    for longer in (4.0, 5.0, 5.0):
        with pytest.raises(DownError):
            await guard.once(down)
        with pytest.raises(BackendShutError) as told:
            await guard.once(down)
        assert told.value.retry_in_s == pytest.approx(longer)
        clock.now += longer
    assert down.asked == 6
    assert await guard.once(Backend("fine")) == "fine"
    assert not guard.shut
    with pytest.raises(DownError):
        await guard.once(Backend(DownError()))
    assert not guard.shut, "it counts anew"


async def test_while_one_looks_the_others_do_not(guard: Guard, clock: Clock) -> None:
    with pytest.raises(DownError):
        await guard.read(Backend(DownError()))
    clock.now += 2.0
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "fine"

    looking = asyncio.create_task(guard.once(slow))
    await asyncio.sleep(0)
    with pytest.raises(BackendShutError):
        await guard.once(Backend("fine"))
    gate.set()
    assert await looking == "fine"
    assert await guard.once(Backend("fine")) == "fine"


async def test_who_looks_and_is_cancelled_leaves_it_to_the_next(guard: Guard, clock: Clock) -> None:
    with pytest.raises(DownError):
        await guard.read(Backend(DownError()))
    clock.now += 2.0
    looking = asyncio.create_task(guard.once(asyncio.Event().wait))
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await guard.once(Backend("fine")) == "fine"


async def test_an_error_tells_how_long() -> None:
    assert str(BackendShutError(1.25, DownError("no route"))) == "shut for another 1.2 s: no route"
