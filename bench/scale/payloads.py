"""Arguments of 100 bytes, 10 kB and 200 kB, which come back in the result; in turns."""

from dataclasses import replace

from bench import plan
from bench.measure import Measure, Round, measure
from bench.scale.lab import lab

SIZES = {"100 B": 100, "10 kB": 10_000, "200 kB": 200_000}
CONNECTIONS = 16
"""Fewer than elsewhere: 64 results of 200 kB fill the buffers between the processes, and that would be measured."""


async def run() -> list[Measure]:
    """A row for each."""
    now = plan.current()
    rounds: dict[str, list[Round]] = {}
    async with lab() as it:
        for number in range(now.rounds):
            for name, size in SIZES.items():
                now.step(f"{name}, round {number + 1} of {now.rounds}")
                rounds.setdefault(name, []).append(await it.load(CONNECTIONS, "x" * size))
    yardstick = measure("", rounds["100 B"])
    rows = [measure(f"{name} each way", found, yardstick) for name, found in rounds.items()]
    return [_with_bytes(row, size) for row, size in zip(rows, SIZES.values(), strict=True)]


def _with_bytes(row: Measure, size: int) -> Measure:
    return replace(row, note=f"{row.per_s * size / 1e6:,.1f} MB/s of arguments")
