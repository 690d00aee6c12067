"""What the kit costs over a bare FastStream handler: the same calls straight over the bus, in turns.

The yardstick does what a handler has to: it reads JSON, checks the argument and answers JSON, as FastStream's
documentation has it. A second one, which reads and checks nothing, shows what of the cost is FastStream's.
"""

import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench import load, plan
from bench.collector import collecting
from bench.estate import Estate
from bench.load import LoadError
from bench.measure import Asked, Measure, Round, measure

AT_ONCE = 64
GROWN = 0.15
_WORKERS = {"typed": "FastStream, a model in", "raw": "FastStream, reads nothing"}
_KIT = "kit worker"
_TRACED = "kit worker, traces at 1 %"


async def run() -> list[Measure]:
    """The yardstick, the bare minimum, the kit; the kit with traces."""
    now = plan.current()
    rounds: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as folder, collecting() as collector:
        estate = Estate(Path(folder))
        await estate.start()
        try:
            async with AsyncExitStack() as stack:
                workers: dict[str, tuple[str, int]] = {}
                for service, name in _WORKERS.items():
                    module = f"bench.workers.faststream_{service}"
                    workers[name] = (service, await stack.enter_async_context(estate.worker(module, service=service)))
                workers[_KIT] = ("demo", await stack.enter_async_context(estate.worker("bench.workers.kit")))
                await _turns(rounds, estate, workers)
            async with estate.worker("bench.workers.kit", collector.settings) as traced:
                await _turns(rounds, estate, {_TRACED: ("demo", traced)})
        finally:
            await estate.stop()
    typed, raw = (measure(name, rounds[name]) for name in _WORKERS.values())
    asked = Asked(cpu_grown=(typed.name, "worker", typed.cpu_us["worker"], GROWN))
    now.step("done")
    return [
        typed,
        measure(raw.name, rounds[raw.name], typed),
        measure(_KIT, rounds[_KIT], typed, asked),
        measure(_TRACED, rounds[_TRACED], typed),
    ]


async def _turns(rounds: dict[str, list[Round]], estate: Estate, workers: dict[str, tuple[str, int]]) -> None:
    now = plan.current()
    for number in range(now.rounds):
        for name, (service, pid) in workers.items():
            now.step(f"{name}, round {number + 1} of {now.rounds}")
            if not number:
                await _ready(estate, service, pid)
                await _load(estate, service, pid, now.warm_s)
            rounds.setdefault(name, []).append(await _load(estate, service, pid, now.seconds))


async def _ready(estate: Estate, service: str, pid: int) -> None:
    client = await estate.bus.connect("edge")
    headers = {"Opsbus-Call": "0" * 32, "Opsbus-Identity": _token(estate, service)}
    headers["Opsbus-Deadline"] = "9999999999999"
    async with asyncio.timeout(30):
        while True:
            try:
                await client.request(f"tool.{service}.echo", b'{"arguments":{"text":"x"}}', 2, headers=headers)
                return
            except Exception:  # noqa: BLE001 - nobody listens yet
                await asyncio.sleep(0.1)


def _token(estate: Estate, service: str) -> str:
    return estate.bus.signer.mint("bench@lab", permissions=["*"], auth="test", service=service)


async def _load(estate: Estate, service: str, pid: int, seconds: int) -> Round:
    pids = {"worker": pid, "nats": estate.server_pid}
    before = {name: load.cpu_s(one) for name, one in pids.items()}
    environment = os.environ | {
        "OPSBUS_NATS_URL": estate.bus.url,
        "OPSBUS_NATS_SEED_FILE": str(estate.bus.credentials("edge")),
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bus.calling",
        f"tool.{service}.echo", _token(estate, service), str(seconds), str(AT_ONCE),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    said, error = await child.communicate()
    if child.returncode:
        last = (error.decode().strip().splitlines() or ["no word why"])[-1]
        raise LoadError(f"the calls of {service} failed: {last}")
    found = json.loads(said)
    return Round(
        per_s=found["calls"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p95_ms=found["p95_ms"],
        p99_ms=found["p99_ms"],
        cpu_us={name: (load.cpu_s(one) - before[name]) * 1e6 / found["calls"] for name, one in pids.items()},
        peak_mb={name: load.peak_mb(one) for name, one in pids.items()},
    )
