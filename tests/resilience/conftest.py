"""Processes that are killed: the edge's fixtures, and workers as processes of their own."""

import asyncio
import importlib.util
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.bus import Bus

HERE = Path(__file__).parent


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


edge_fixtures = _load("edge_fixtures", HERE.parent / "edge" / "conftest.py")
_load("record_estate", HERE / "record_estate.py")

keys = edge_fixtures.keys
run_edge = edge_fixtures.run_edge
running = edge_fixtures.running
audit_events = edge_fixtures.audit_events

WORKER = HERE / "victim.py"


@dataclass
class Victim:
    """A worker process that can be killed."""

    process: asyncio.subprocess.Process
    diary: Path
    """One line for each execution: tool, call, phase."""

    def lines(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    async def began(self, what: str, times: int = 1, timeout_s: float = 60.0) -> None:
        """Wait until a tool has begun this often."""
        async with asyncio.timeout(timeout_s):
            while sum(line.startswith(f"{what} ") and line.endswith(" begin") for line in self.lines()) < times:
                await asyncio.sleep(0.01)

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()


@pytest.fixture
async def start_victim(bus: Bus, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """``await start_victim()`` starts one more worker of the service ``demo``, ready; all are gone at the end."""
    victims: list[Victim] = []
    numbers = itertools.count()

    async def start(**environment: str) -> Victim:
        number = next(numbers)
        ready, diary = tmp_path / f"victim-{number}.json", tmp_path / f"victim-{number}.diary"
        env = {
            **os.environ,
            "OPSBUS_NATS_URL": bus.url,
            "OPSBUS_NATS_SEED_FILE": str(bus.credentials("demo")),
            "OPSBUS_READY_FILE": str(ready),
            "OPSBUS_LOG_LEVEL": "warning",
            "VICTIM_DIARY": str(diary),
            **environment,
        }
        process = await asyncio.create_subprocess_exec(sys.executable, str(WORKER), env=env)
        victim = Victim(process, diary)
        victims.append(victim)
        async with asyncio.timeout(60):
            while not ready.exists():
                assert process.returncode is None, "the worker ended while it started"
                await asyncio.sleep(0.02)
        return victim

    try:
        yield start
    finally:
        for victim in victims:
            await victim.kill()
