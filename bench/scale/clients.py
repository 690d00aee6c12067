"""1, 8, 64, 256 and 1,000 clients at once, in turns."""

from bench import plan
from bench.measure import Asked, Measure, Round, measure
from bench.scale.lab import lab

COUNTS = (1, 8, 64, 256, 1_000)


async def run() -> list[Measure]:
    """A row for each."""
    now = plan.current()
    rounds: dict[int, list[Round]] = {}
    async with lab() as it:
        for number in range(now.rounds):
            for count in COUNTS:
                now.step(f"{count:,} clients, round {number + 1} of {now.rounds}")
                rounds.setdefault(count, []).append(await it.load(count, seconds=max(now.seconds, 1 + count // 500)))
    yardstick = measure("", rounds[64])
    asked = {64: Asked(tail=4.0)}
    return [measure(_name(count), found, yardstick, asked.get(count)) for count, found in rounds.items()]


def _name(count: int) -> str:
    return f"{count:,} client{'s' if count > 1 else ''}"
