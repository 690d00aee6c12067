"""The adapters against a real Prometheus and a real Alertmanager, where the machine has them."""

import asyncio
import time

import aiohttp
import pytest

from opsbus_monitoring.alertmanager import Alertmanager
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.prometheus import Prometheus


async def test_prometheus(prometheus_url: str) -> None:
    prometheus = Prometheus(prometheus_url)
    async with asyncio.timeout(60):
        while not (await prometheus.query("up == 1")).series:
            await asyncio.sleep(0.1)
    now = time.time()
    ranged = await prometheus.query_range("up", now - 5, now, 1)
    assert ranged.kind == "matrix"
    assert ranged.series[0].labels["job"] == "self"
    assert "up" in await prometheus.label_values("__name__")
    assert await prometheus.series(["up"], now - 60, now)
    assert (await prometheus.targets())[0]["health"] == "up"
    assert await prometheus.version()
    assert await prometheus.rules() == []
    with pytest.raises(BackendError, match="parse error") as caught:
        await prometheus.query("foo(")
    assert caught.value.code == "bad_request"
    await prometheus.close()


async def test_alertmanager(alertmanager_url: str) -> None:
    alert = [{"labels": {"alertname": "DiskFull", "severity": "critical"}, "annotations": {"summary": "full"}}]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{alertmanager_url}/api/v2/alerts", json=alert) as answer,
    ):
        assert answer.status == 200
    alertmanager = Alertmanager(alertmanager_url)
    async with asyncio.timeout(60):
        while not (found := await alertmanager.alerts(['severity="critical"'])):
            await asyncio.sleep(0.1)
    assert found[0]["labels"]["alertname"] == "DiskFull"
    assert await alertmanager.alerts(['severity="none"']) == []
    assert await alertmanager.silences() == []
    assert "versionInfo" in await alertmanager.status()
    with pytest.raises(BackendError):
        await alertmanager.alerts(["what?"])
    await alertmanager.close()
