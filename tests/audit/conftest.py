"""Fixtures of the record's tests: both databases, and events as an edge writes them."""

import importlib.util
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from opsbus.testing.bus import Bus
from opsbus_contracts import AuditEvent, AuditRecord, Stage


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


postgres_server = _load(Path(__file__).parents[1] / "cmdb" / "postgres_server.py")


@pytest.fixture(autouse=True)
def _workers_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests here count the events of the stream; test_worker_events.py has those of workers."""
    monkeypatch.setenv("OPSBUS_AUDIT_RECORD_WORKERS", "false")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server; without one the test is skipped, and says so."""
    if postgres_server.binaries() is None:
        pytest.skip("PostgreSQL is not installed (no initdb)")
    with postgres_server.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.sqlite3"
    return await request.getfixturevalue("postgres").database()


class Edge:
    """Writes events as an edge does, and waits until the stream has them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._js: Any = None

    async def write(self, stage: Stage | str = Stage.COMPLETED, **data: Any) -> AuditEvent:
        """One event; ``data`` are fields of the record, ``event_id`` and ``time`` of the envelope."""
        envelope = {"id": data.pop("event_id", secrets.token_hex(8)), "time": data.pop("time", datetime.now(UTC))}
        record = AuditRecord.model_validate(
            {"call": secrets.token_hex(16), "actor": "ada", "tool": "k8s_get_pods"} | data | {"stage": stage}
        )
        event = AuditEvent(source="/opsbus/edge/edge-1", type=f"opsbus.audit.v1.{stage}", data=record, **envelope)
        await self.raw(
            event.model_dump_json(exclude_none=True).encode(), f"audit.edge.{stage}", {"Nats-Msg-Id": event.id}
        )
        return event

    async def raw(
        self, payload: bytes, subject: str = "audit.edge.completed", headers: dict[str, str] | None = None
    ) -> int:
        """Any bytes; gives their sequence."""
        if self._js is None:
            self._js = (await self._bus.connect("edge")).jetstream()
        return (await self._js.publish(subject, payload, headers=headers or {})).seq

    async def many(self, count: int, start: int = 0) -> None:
        """A run of numbered events."""
        if self._js is None:
            self._js = (await self._bus.connect("edge")).jetstream()
        for number in range(start, start + count):
            record = {
                "stage": "completed",
                "call": f"{number:032x}",
                "actor": f"user-{number % 7}",
                "tool": "k8s_get_pods",
            }
            event = {
                "specversion": "1.0", "id": f"event-{number}", "source": "/opsbus/edge/edge-1",
                "type": "opsbus.audit.v1.completed", "time": datetime.now(UTC).isoformat(), "data": record,
            }  # fmt: skip
            await self._js.publish_async("audit.edge.completed", json.dumps(event).encode())
        await self._js.publish_async_completed()


@pytest.fixture
def edge(bus: Bus) -> Edge:
    """Writes to the stream."""
    return Edge(bus)
